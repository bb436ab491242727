#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of tests/kube/run that runs in the virtual machine (or, with --kernel host, beside it); see there."""

import argparse
import os
import signal
import subprocess
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [here, os.path.join(here, "..", "vm")]

from lib.memory import keep_in_memory  # noqa: E402
from lib.netns import private_mounts  # noqa: E402
from tier import services  # noqa: E402
from tier.cases import CASES, CaseRun, Setting  # noqa: E402
from tier.many import ManyRun  # noqa: E402
from tier.versions import VERSIONS  # noqa: E402

MODULES = ("virtio_net", "br_netfilter", "sctp", "ip_vs", "ip_vs_rr", "ip_vs_sh", "nf_conntrack", "ip_set", "dummy")
HOST = "10.0.2.2"  # where QEMU's user network shows the machine that runs it


def prepare():
    """Modules, and the interface to the machine outside (QEMU's fixed addresses; nothing of it reaches the nodes)."""
    for module in MODULES:
        subprocess.run(["modprobe", module], check=True)
    with open("/proc/sys/net/bridge/bridge-nf-call-iptables", "w", encoding="ascii") as file:
        file.write("1\n")
    interface = next(name for name in sorted(os.listdir("/sys/class/net")) if os.path.exists(f"/sys/class/net/{name}/device"))
    for command in (f"ip link set {interface} up", f"ip address replace 10.0.2.15/24 dev {interface}", "ip link set lo up"):
        subprocess.run(command.split(), check=True)


def runs(setting, mode, options):
    if options.many:
        return [ManyRun(setting, mode)]
    wanted = options.case or VERSIONS[options.version].cases
    return [CaseRun(setting, mode, case) for case in CASES
            if (not wanted or case.name in wanted) and (not case.modes or mode in case.modes)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", required=True, help="folder of what scripts and tests/kube/build prepared")
    parser.add_argument("--version", required=True)
    parser.add_argument("--case", action="append", default=[])
    parser.add_argument("--many", action="store_true")
    parser.add_argument("--kernel", required=True, help="what the machine was started with, or host")
    parser.add_argument("--hptrace", default="")
    parser.add_argument("modes", nargs="+")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of `finally`: no process stays
    host = options.kernel == "host"
    if not host:
        prepare()
    private_mounts("/var/lib/cni", "/run/netns")
    if not host:
        keep_in_memory("ipset", "iptables-legacy", "iptables-nft")  # kube-proxy, portmap
    setting = Setting(options.cache, options.version, ("127.0.0.1" if host else HOST, services.API_PORT),
                      os.environ["HPTRACE_OUT"], options.kernel, options.hptrace)
    failed = []
    for mode in options.modes:
        for run in runs(setting, mode, options):
            begin = time.monotonic()
            run.run()
            print(f"{run.name}: {time.monotonic() - begin:.0f} s")
            for line in run.summary():
                print(f"  {line}")
            for problem in run.problems:
                print(f"  PROBLEM {problem}")
            print(f"  {'FAIL' if run.problems else 'PASS'}", flush=True)
            failed += [run.name] if run.problems else []
    if failed:
        print(f"FAILED: {' '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
