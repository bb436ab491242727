#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the probes see, in both modes: every protocol and kind of rewrite once, what a filter lets through and nothing
else, and a full ring buffer that is counted."""

import argparse
import ipaddress
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import hptrace  # noqa: E402
from lib.cluster import MYSQL_A, MYSQL_B, NODE, REDIS, Cluster  # noqa: E402
from lib.kernel import probe_modes  # noqa: E402
from lib.kubeproxy import KubeProxy, Service  # noqa: E402
from lib.netns import private_mounts  # noqa: E402
from lib.portmap import Pod, Portmap  # noqa: E402
from lib.report import Report  # noqa: E402
from lib.servers import ask_once  # noqa: E402

PROTOCOLS = ("tcp", "udp", "sctp")
MYSQL = Service("mysql-a", {4: "10.96.0.10", 6: "fd00:10:96::a"}, 3306,
                {4: (MYSQL_A[4], 3306), 6: (MYSQL_A[6], 3306)}, protocols=PROTOCOLS)
OTHER = Service("redis", {4: "10.96.0.20", 6: "fd00:10:96::14"}, 6379,
                {4: (REDIS[4], 6379), 6: (REDIS[6], 6379)}, protocols=PROTOCOLS)
NFT_DNAT, NFT_REDIRECT, IPTABLES_REDIRECT, ON_NODE = 4001, 4002, 4003, 4000
BURST = 6000  # the ring has room for the records of some 2,700 connections


@dataclass
class Attempt:
    """One connection of the pod `client`, who answers it, and what hptrace must say of it."""

    what: str
    family: int
    protocol: str
    address: str
    port: int
    expected_answer: str
    verdict: str
    mechanism: str = "nf_nat"
    rewritten: tuple = ()
    answer: str = ""
    local: tuple = ("", 0)

    def make(self, namespace):
        self.answer, self.local = ask_once(namespace, self.protocol, self.address, self.port)
        return self

    def key(self):
        return (self.protocol, *self.local, self.address, self.port)


def attempts():
    for family in (4, 6):
        for protocol in PROTOCOLS:
            yield Attempt("Service, taken", family, protocol, MYSQL.address[family], 3306, "mysql-b", "hijacked",
                          rewritten=(MYSQL_B[family], 3306))
            yield Attempt("Service", family, protocol, OTHER.address[family], 6379, "redis", "ok", "ip_vs",
                          rewritten=(REDIS[family], 6379))
            yield Attempt("hostPort", family, protocol, NODE[family], 3306, "mysql-b", "hostport",
                          rewritten=(MYSQL_B[family], 3306))
        yield Attempt("nft dnat", family, "tcp", NODE[family], NFT_DNAT, "mysql-a", "other",
                      rewritten=(MYSQL_A[family], 3306))
        for what, port in (("nft redirect", NFT_REDIRECT), ("iptables REDIRECT", IPTABLES_REDIRECT)):
            yield Attempt(what, family, "tcp", NODE[family], port, "node", "other")


# What hptrace is asked for -> which attempts it must show.
FILTERS = (
    (("--proto", "udp"), lambda a: a.protocol == "udp"),
    (("--proto", "tcp,sctp", "-6"), lambda a: a.protocol != "udp" and a.family == 6),
    (("-4", "--port", "6379,4001-4002"), lambda a: a.family == 4 and a.port in (6379, 4001, 4002)),
    (("--dest", f"{MYSQL_B[4]}/32"), lambda a: a.rewritten and a.rewritten[0] == MYSQL_B[4]),
    (("--dest", "fd00:10:96::/112"), lambda a: ipaddress.ip_address(a.address) in ipaddress.ip_network("fd00:10:96::/112")),
    (("--source", "10.224.0.223/32", "--port", "3306"), lambda a: a.family == 4 and a.port == 3306),
    (("--source", "10.224.0.0/25"), lambda a: False),
)


class CaptureTest:
    def __init__(self, binary, report):
        self.binary, self.report = binary, report
        self.probes = probe_modes()
        subprocess.run(["modprobe", "-a", "sctp", "nf_nat", "nft_redir"], check=True)
        self.cluster = Cluster()
        node, servers = self.cluster.node, self.cluster.servers
        servers.add(self.cluster.mysql_b, "mysql-b", 3306, ("sctp",))
        servers.add(self.cluster.redis, "redis", 6379, ("sctp",))
        servers.add(node, "node", ON_NODE, ("tcp",))
        KubeProxy(node, "nft", (MYSQL, OTHER)).start_ipvs_only()
        Portmap(node, "legacy", Pod(self.cluster.mysql_b, "mysql-b-0", MYSQL_B),
                [(3306, 3306, protocol) for protocol in PROTOCOLS]).add()
        for family, name in ((4, "ip"), (6, "ip6")):
            target = MYSQL_A[4] if family == 4 else f"[{MYSQL_A[6]}]"
            node.run("nft", "-f", "-", stdin=f"table {name} more {{ chain prerouting {{\n"
                     "type nat hook prerouting priority dstnat\n"
                     f"tcp dport {NFT_DNAT} dnat to {target}:3306\n"
                     f"tcp dport {NFT_REDIRECT} redirect to :{ON_NODE}\n}}\n}}\n")
            node.run(f"{name}tables-legacy", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport",
                     str(IPTABLES_REDIRECT), "-j", "REDIRECT", "--to-ports", str(ON_NODE))
        report.note("cluster built")

    def start(self, arguments, probe):
        return hptrace.Hptrace(self.cluster.node, self.binary, "--json", "--probe", probe, *arguments)

    def check(self, what, arguments, probe, program, problems):
        self.report.check([what, " ".join(arguments), probe], problems)
        if problems:
            self.report.transcript(program.transcript())

    # --- every protocol and kind of rewrite, and the filters -----------------------------------------------------

    def rewrites_and_filters(self):
        """All tracers side by side: they see the same connections."""
        tracers = [((), lambda a: True, probe) for probe in self.probes]
        # Every filter in one mode is every filter in both: the modes share its code.
        tracers += [(arguments, wanted, self.probes[i % len(self.probes)]) for i, (arguments, wanted) in enumerate(FILTERS)]
        running = [(arguments, wanted, probe, self.start(arguments, probe)) for arguments, wanted, probe in tracers]
        ready = [program.wait_tracing() for *_, program in running]
        made = [attempt.make(self.cluster.client) for attempt in attempts()] if all(ready) else []
        self.report.note(f"{len(made)} connections made")
        for attempt in made:
            problems = [] if attempt.answer == attempt.expected_answer else [f"answered by {attempt.answer}"]
            self.report.check([attempt.what, f"ipv{attempt.family} {attempt.protocol} port {attempt.port}",
                               attempt.answer], problems)
        for arguments, wanted, probe, program in running:
            program.stop()
            problems = [] if all(ready) else ["not all of them came to `hptrace: tracing`"]
            problems += self.disagreements([attempt for attempt in made if wanted(attempt)], program)
            self.check("records", arguments, probe, program, problems)

    @staticmethod
    def disagreements(wanted, program):
        found = program.connections()
        problems = []
        for attempt in wanted:
            records = found.pop(attempt.key(), [])
            said = [(record["verdict"], record["mechanism"], record["existing"]) for record in records]
            if said != [(attempt.verdict, attempt.mechanism, False)]:
                problems.append(f"{attempt.what} {attempt.key()}: {said}, not once {attempt.verdict}")
            elif attempt.rewritten and (records[0]["rewritten"]["ip"], records[0]["rewritten"]["port"]) != attempt.rewritten:
                problems.append(f"{attempt.what} {attempt.key()}: went to {records[0]['rewritten']}")
        problems += [f"not asked for: {record}" for records in found.values() for record in records]
        # What the kernel side counted: what does not match gets no further than the filter there.
        summary = (program.records("summary") or [{}])[-1]
        if summary.get("seen") != len(wanted):
            problems.append(f"the probes let {summary.get('seen')} through, not {len(wanted)}")
        if summary.get("lost") != 0:
            problems.append(f"lost: {summary.get('lost')}")
        return problems

    # --- more than the ring buffer holds ---------------------------------------------------------------------------

    def full_ring(self, probe):
        """hptrace stands still while connections are made: what it does not show it must have counted."""
        program = self.start(("--dest", f"{NODE[4]}/32", "--proto", "udp"), probe)
        problems = [] if program.wait_tracing() else ["did not trace"]
        os.kill(program.pid, signal.SIGSTOP)
        with self.cluster.client:
            for number in range(BURST):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                    client.bind(("", 1024 + self.probes.index(probe) * BURST + number))
                    client.sendto(b"hello\n", (NODE[4], 3306))
        os.kill(program.pid, signal.SIGCONT)
        status = program.stop()
        shown = len({hptrace.connection_key(record) for record in program.records("connection") if not record["existing"]})
        lost = program.losses()
        summary = (program.records("summary") or [{}])[-1]
        counted = shown + lost.get("ring_buffer", 0)
        # A missed probe may be that of a decision or of a commit.
        missed = lost.get("missed_probes", 0) + lost.get("pending", 0)
        if not lost.get("ring_buffer"):
            problems.append("the ring did not overflow: this check proves nothing")
        if not BURST - missed <= counted <= BURST:
            problems.append(f"{shown} shown and {lost} lost of {BURST}")
        if summary.get("lost") != sum(count for where, count in lost.items() if where != "commit"):
            problems.append(f"the summary counts {summary.get('lost')}, the lost records say {lost}")
        if status != 4:
            problems.append(f"exit status {status}, not 4")
        self.check(f"{shown} shown, {lost.get('ring_buffer')} lost", ("full ring",), probe, program, problems)

    def run(self):
        self.rewrites_and_filters()
        for probe in self.probes:
            self.full_ring(probe)
        self.cluster.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hptrace", required=True, help="the binary under test")
    options = parser.parse_args()
    private_mounts("/run/netns", "/var/lib/cni")
    report = Report(f"capture on {os.uname().release}", (("WHAT", 24), ("CASE", 42), ("PROBE/ANSWER", 8)))
    CaptureTest(options.hptrace, report).run()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
