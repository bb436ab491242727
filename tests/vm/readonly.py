#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a node changes nothing, whichever back ends it uses: every combination of them, every command that reads."""

import argparse
import itertools
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import hptrace  # noqa: E402
from lib.footprint import changes_since, footprint  # noqa: E402
from lib.netns import Namespace, private_mounts  # noqa: E402
from lib.report import Report  # noqa: E402

MODULES = ("ip_vs", "ip_vs_rr", "ip_set", "ip_set_hash_ipport", "nf_conntrack_netlink", "iptable_nat", "ip6table_nat",
           "nft_chain_nat", "xt_addrtype", "nft_compat", "xt_comment")
NAT = ("-t", "nat", "-A", "PREROUTING", "-m", "addrtype", "--dst-type", "LOCAL", "-j", "ACCEPT")
BACKENDS = {
    "legacy": (("iptables-legacy", *NAT),),
    "legacy6": (("ip6tables-legacy", *NAT),),
    "iptables-nft": (("iptables-nft", *NAT), ("ip6tables-nft", *NAT)),
    "native": (("nft", "table ip cni_hostport { chain prerouting { type nat hook prerouting priority dstnat; }; }"),),
    "ipvs": (("ipvsadm", "-A", "-t", "10.96.0.10:3306", "-s", "rr"),
             ("ipset", "create", "KUBE-CLUSTER-IP", "hash:ip,port")),
}
COMMANDS = (("audit",), ("--existing",), ("--duration", "0.2"), ("--netns", "all", "--existing"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hptrace", required=True, metavar="PROGRAM")
    parser.add_argument("--brief", action="store_true", help="none of them, each one, and all")
    options = parser.parse_args()
    private_mounts("/var/lib/cni", "/run/netns")
    for module in MODULES:
        subprocess.run(["modprobe", module], check=True)
    report = Report("reading changes nothing: " + os.uname().release, (("IN USE", 45), ("COMMAND", 16), ("EXIT", 4)))
    sizes = (0, 1, len(BACKENDS)) if options.brief else range(len(BACKENDS) + 1)
    for used in itertools.chain.from_iterable(itertools.combinations(BACKENDS, size) for size in sizes):
        node = Namespace.create("node")
        for backend in used:
            for command in BACKENDS[backend]:
                node.run(*command)
        before = footprint(node)
        for command in COMMANDS:
            program = hptrace.run(node, options.hptrace, *command)
            problems = changes_since(before, node)
            # Without a Service it is no node's namespace: nothing is proven.
            if program.status != (0 if "ipvs" in used or "all" in command else 4):
                problems.append(f"exit status {program.status}")
            report.check([" ".join(used) or "nothing", " ".join(command), program.status], problems)
            if problems:
                report.transcript(program.transcript())
        node.delete()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
