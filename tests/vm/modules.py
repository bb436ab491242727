#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel modules that come and go while hptrace runs: nothing is missed, what was not seen being made is found, and said.

hptrace starts before nf_nat and ip_vs are loaded. Then the incident is built, which loads them. With kprobes they are
unloaded and loaded once more; fexit probes hold them."""

import argparse
import os
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import hptrace  # noqa: E402
from lib.footprint import modules  # noqa: E402
from lib.incident import MYSQL, ROWS, Incident  # noqa: E402
from lib.kernel import probe_modes  # noqa: E402
from lib.netns import Namespace, private_mounts  # noqa: E402
from lib.report import Report  # noqa: E402
from lib.servers import ask_once  # noqa: E402

DESTINATIONS = [(protocol, MYSQL.address[family], MYSQL.port, "mysql-b", "hijacked")
                for family in (4, 6) for protocol in ("tcp", "udp")]
DESTINATIONS += [("tcp", "10.96.0.20", 6379, "redis", "ok")]  # by ip_vs


def holders(module):
    with open("/proc/modules", encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if fields[0] == module:
                return [name for name in fields[3].split(",") if name not in ("", "-")]
    return []


def unload(module):
    """With all that uses it; True if it is gone in time. The kernel takes namespaces and rules down some time later."""
    deadline = time.monotonic() + 60
    while module in modules() and time.monotonic() < deadline:
        todo = [module]
        while todo:
            above = holders(todo[-1])
            if above:
                todo.append(above[0])
                continue
            if subprocess.run(["rmmod", todo.pop()], check=False, capture_output=True).returncode:
                break
        time.sleep(0.2)
    return module not in modules()


class Test:
    def __init__(self, binary, probe, report):
        self.binary, self.probe, self.report = binary, probe, report
        self.node = Namespace.create("node")
        self.program = hptrace.Hptrace(self.node, binary, "--port", "3306,6379", "--json", "--probe", probe)

    def round(self, title, gaps):
        """The incident comes, connections are made, the incident goes. gaps: how many of each subsystem by then."""
        problems = []
        incident = Incident(next(row for row in ROWS if row.name == "other-backend"), "legacy", self.node)
        before = len(self.program.records("connection"))
        wanted = {}
        for protocol, address, port, server, verdict in DESTINATIONS:
            answer, local = ask_once(incident.cluster.client, protocol, address, port)
            wanted[(protocol, local[0], local[1], address, port)] = verdict
            if answer != server:
                problems.append(f"{address}: answered by {answer}: the test proves nothing")
        hptrace.wait_until(lambda: len(self.program.records("connection")) >= before + len(wanted))
        time.sleep(0.5)  # for one too many
        records = [record for record in self.program.records("connection")][before:]
        for key, verdict in wanted.items():
            made = [record for record in records if hptrace.connection_key(record) == key]
            found = [record["verdict"] for record in made]
            # A probe may see it before the gap is over: the state read before knows nothing of the module.
            if found != [verdict] and not (found == ["unsettled"] and self.in_gap(made[0])):
                problems.append(f"{key}: {found}, not {verdict} once")
        self.check(title, "connections", problems)
        why = sorted(record["why"] for record in self.program.records("gap"))
        wanted_gaps = sorted(["ip_vs was loaded", "nf_nat was loaded"] * gaps)
        self.check(title, "gaps", [] if why == wanted_gaps else [f"gaps {why}"])
        incident.close()
        self.node.run("sh", "-c", "for ip in iptables ip6tables; do for table in nat filter; do for what in F X; do"
                                  " $ip-legacy -t $table -$what; done; done; done;"
                                  " nft flush ruleset; ipvsadm -C; ipset destroy; ip link del kube-ipvs0; ip link del cni0")

    def in_gap(self, record):
        return any(gap["from"] <= record["time"] <= gap["to"] for gap in self.program.records("gap"))

    def said(self, text):
        hptrace.wait_until(lambda: any(text in line for line in self.program.stderr))
        return [] if any(text in line for line in self.program.stderr) else [f"it does not say: {text}"]

    def run(self):
        started = self.program.wait_tracing()
        problems = [] if started else ["did not trace"]
        problems += [f"{name} is loaded" for name in ("nf_nat", "ip_vs") if name in modules()]
        self.check("nothing loaded", "starts", problems)
        if not started:
            return
        self.round("loaded later", 1)
        if self.probe == "kprobe":
            problems = [f"{name} cannot be unloaded" for name in ("ip_vs", "nf_nat") if not unload(name)]
            problems += self.said("nf_nat was unloaded") + self.said("ip_vs was unloaded")
            self.check("unloaded", "is said", problems)
            self.round("loaded again", 2)
        else:
            subprocess.run(["rmmod", "nf_nat"], check=False, capture_output=True)
            self.check("held", "nf_nat", [] if "nf_nat" in modules() else ["fexit does not hold it"])
        self.program.status = self.program.stop()
        problems = [] if self.program.status == 3 else [f"exit status {self.program.status}"]
        problems += [str(record) for record in self.program.records("lost")]
        self.check("end", "", problems)
        self.node.delete()
        self.check("after the end", "can be unloaded", [f"{name} cannot" for name in ("ip_vs", "nf_nat") if not unload(name)])

    def check(self, when, what, problems):
        self.report.check([self.probe, when, what], problems)
        if problems:
            self.report.transcript(self.program.transcript())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hptrace", required=True, metavar="PROGRAM", help="the binary under test")
    options = parser.parse_args()
    private_mounts("/run/netns", "/var/lib/cni")
    report = Report(f"kernel modules, {os.uname().release}", (("PROBE", 6), ("WHEN", 16), ("WHAT", 16)))
    for probe in sorted(probe_modes(), reverse=True):  # fexit holds the modules
        Test(options.hptrace, probe, report).run()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
