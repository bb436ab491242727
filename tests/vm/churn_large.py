#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A node with thousands of Services, whose kube-proxy writes a sync every second: it is not blind.

kube-proxy's iptables mode in iptables-nft, each sync as 1.27 and newer write it; a hostPort of the real portmap in
iptables-legacy takes a NodePort. Connections to that NodePort, and to a Service that is fine, go on meanwhile. None may be
unknown, each hijack must be told, and at most one of a hundred may be unsettled."""

import argparse
import collections
import itertools
import os
import sys
import time

sys.dont_write_bytecode = True
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)

from lib import hptrace, servers  # noqa: E402
from lib.background import Repeated  # noqa: E402
from lib.cluster import Cluster, MYSQL_A, MYSQL_B, NODE, REDIS  # noqa: E402
from lib.many_services import Service, Sync, many, whole  # noqa: E402
from lib.netns import private_mounts  # noqa: E402
from lib.portmap import Pod, Portmap  # noqa: E402
from lib.report import Report  # noqa: E402

ENDPOINTS = 5
TAKEN = Service("default/mysql-a:sql", "10.96.255.10", 3306, [f"{MYSQL_A[4]}:3306"], node_port=30306)
FINE = Service("default/redis:redis", "10.96.255.20", 6379, [f"{REDIS[4]}:6379"])
ASKED = {"mysql-b": (NODE[4], 30306, "hijacked"), "redis": ("10.96.255.20", 6379, "ok")}


def percentile(numbers, part):
    ordered = sorted(numbers)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    return ", ".join(f"{name} {lines[name].strip()}" for name in ("VmHWM", "VmRSS"))


def connect(cluster, seconds):
    """(expected answer, answer, client's address and port, when) of each connection."""
    made = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for name, (address, port, _) in ASKED.items():
            when = time.monotonic()
            answer, local = servers.ask_once(cluster.outside, "tcp", address, port)
            made.append((name, answer, local, when))
        time.sleep(0.3)
    return made


def compare(report, made, tracer, status):
    told = tracer.connections()
    verdicts, late, missing, wrong = collections.Counter(), [], [], []
    arrived = {hptrace.connection_key(record): when for record, when in tracer.arrivals("connection")}
    for name, answer, local, when in made:
        address, port, verdict = ASKED[name]
        key = ("tcp", *local, address, port)
        records = told.get(key, [])
        if answer != name or len(records) != 1:
            missing.append(f"{key}: answered {answer}, {len(records)} records")
            continue
        verdicts[name, records[0]["verdict"]] += 1
        late.append(arrived[key] - when)
        if records[0]["verdict"] not in (verdict, "unsettled"):
            wrong.append(f"{key}: {records[0]['verdict']}, not {verdict}: {records[0].get('reason')}")
    for (name, verdict), number in sorted(verdicts.items()):
        report.note(f"answered by {name}: {number} times {verdict}")
    unsettled = sum(number for (_, verdict), number in verdicts.items() if verdict == "unsettled")
    report.note(f"told after {percentile(late, 0.5):.2f} s (median), {percentile(late, 0.99):.2f} s (99 %), "
                f"{max(late, default=0):.2f} s (last)")
    report.check(["every connection is told, once"], missing[:20])
    report.check(["every hijack is flagged, nothing else is"], wrong[:20])
    report.check(["at most one of a hundred is unsettled"],
                 [] if unsettled * 100 <= len(made) else [f"{unsettled} of {len(made)}"])
    summary = tracer.records("summary")[0]
    report.check(["nothing is lost"], [str(summary)] if summary["lost"] or tracer.losses() else [])
    report.check(["exit status 3"], [] if status == 3 else [str(status)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hptrace", required=True, metavar="PROGRAM")
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    private_mounts("/var/lib/cni", "/run/netns")
    report = Report(f"churn-large: {options.services} Services on {os.uname().release}", (("WHAT", 40),))
    cluster = Cluster()
    services = [*many(options.services, ENDPOINTS), TAKEN, FINE]
    began = time.monotonic()
    cluster.node.run("iptables-nft-restore", "-w", stdin=whole(services))
    report.note(f"kube-proxy's rules written in {time.monotonic() - began:.1f} s")
    pod = Pod(cluster.mysql_b, "mysql-b-0", MYSQL_B)
    Portmap(cluster.node, "legacy", pod, [(30306, 3306, "tcp")]).add()
    tracer = hptrace.Hptrace(cluster.node, options.hptrace, "--json")
    if not tracer.wait_tracing():
        report.transcript(tracer.transcript())
        report.check(["hptrace traces"], ["it does not"])
        return report.finish()
    report.note(f"tracing; {memory(tracer.pid)}")
    sync, numbers = Sync(services, FINE), itertools.count()
    syncs = Repeated(lambda: cluster.node.run("iptables-nft-restore", "-w", "--noflush", stdin=sync.text(next(numbers))),
                     interval=1)
    before, began = cpu_seconds(tracer.pid), time.monotonic()
    made = connect(cluster, options.seconds)
    lasted, used = time.monotonic() - began, cpu_seconds(tracer.pid) - before
    syncs.close()
    after = memory(tracer.pid)
    status = tracer.stop()
    rate = len(syncs.times) / lasted
    report.note(f"{len(syncs.times)} syncs in {lasted:.0f} s, one asked for each second; each took "
                f"{percentile(syncs.times, 0.5):.2f} s (median)")
    report.note(f"hptrace took {used:.1f} s of processor time, {used / max(1, len(syncs.times)):.2f} s for each sync; {after}")
    report.check(["at least every two seconds"], [] if rate >= 0.5 else [f"{rate:.2f} a second"])
    compare(report, made, tracer, status)
    if report.failures:
        report.transcript(tracer.transcript())
    cluster.close()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
