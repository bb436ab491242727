#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Thousands of connections while everything changes: no false alarm, none missed, none unaccounted for.

An endpoint of the Services comes and goes up to 50 times a second, as it does in kube-proxy's rules, and a pod with their
NodePorts as hostPorts comes and goes as fast as the real portmap can. Who answered each connection is known; hptrace must
say the same, or that it was unsettled, and its summary must account for every connection."""

import argparse
import collections
import os
import re
import resource
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [here, os.path.join(here, "..", "kube")]

from lib import hptrace  # noqa: E402
from lib.background import Repeated  # noqa: E402
from lib.netns import private_mounts  # noqa: E402
from lib.report import Report  # noqa: E402
from tier import services, traffic  # noqa: E402
from truth.kube import KubeProxy  # noqa: E402
from truth.producers import Producer  # noqa: E402

PER_SECOND = 50
AT_ONCE = 200
ASKED = ("nodeport", "syslog")  # TCP 30307, UDP 30514; both have one endpoint, remote-1
EXTRA = "remote-2"  # the endpoint that comes and goes
COMMANDS = {4: "iptables-legacy-restore", 6: "ip6tables-legacy-restore"}


def asked():
    return [service for service in services.SERVICES if service.name in ASKED]


class Endpoints:
    """Adds and removes one endpoint of each Service in kube-proxy's chains, one transaction each time. Half of the time at
    most: iptables's lock is for the hostPorts, too."""

    DONE = "# done\n"  # iptables-restore --verbose repeats comments

    def __init__(self, node):
        self.changes = 0
        self._stop = threading.Event()
        self._streams = []
        for family, command in COMMANDS.items():
            with node:
                restore = subprocess.Popen(["stdbuf", "-oL", command, "-w", "--noflush", "--verbose"],
                                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self._streams.append((restore, *self._transactions(node, family)))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self):
        self._stop.set()
        self._thread.join()
        for restore, _, _ in self._streams:
            restore.stdin.close()
            restore.stdout.close()
            if status := restore.wait():
                raise RuntimeError(f"{restore.args[0]} ended with status {status}")

    def _run(self):
        while not self._stop.is_set():
            begin = time.monotonic()
            there = self.changes % 2 == 1
            for restore, add, remove in self._streams:
                restore.stdin.write((remove if there else add) + self.DONE)
                restore.stdin.flush()
            if not all(self.DONE in iter(restore.stdout.readline, "") for restore, _, _ in self._streams):
                raise RuntimeError("iptables-restore ended")
            self.changes += 1
            took = time.monotonic() - begin
            self._stop.wait(max(took, 1 / PER_SECOND - took))

    @staticmethod
    def _transactions(node, family):
        rules = node.run(COMMANDS[family].replace("-restore", "-save"), "-t", "nat")
        add, remove = ["*nat"], ["*nat"]
        for service in asked():
            port = service.ports[0]
            chain = re.search(rf'^-A (KUBE-SVC-\S+) .*"default/{service.name} -> ', rules, re.MULTILINE).group(1)
            new = chain.replace("KUBE-SVC-", "KUBE-SEP-")
            target = services.pod_address(EXTRA, family)
            target = f"{target}:{port.target}" if family == 4 else f"[{target}]:{port.target}"
            jump = f'-m comment --comment "default/{service.name} -> {target}" -m statistic --mode random --probability 0.5 -j {new}'
            add += [f":{new} - [0:0]", f"-A {new} -p {port.protocol} -m comment --comment default/{service.name} "
                    f"-m {port.protocol} -j DNAT --to-destination {target}", f"-I {chain} 1 {jump}"]
            remove += [f"-D {chain} {jump}", f"-F {new}", f"-X {new}"]
        return "\n".join([*add, "COMMIT\n"]), "\n".join([*remove, "COMMIT\n"])


def attempts(count):
    kinds = [(service, family, client) for service in asked() for family in services.FAMILIES
             for client in traffic.CLIENTS]
    for number in range(count):
        service, family, client = kinds[number % len(kinds)]
        port = service.ports[0]
        yield traffic.Attempt(client, port.protocol, "NodePort", family, services.NODE[family], port.node_port, service,
                              port.target)


def answered_by(attempt):
    by = attempt.by()
    return "service" if by == "other" and attempt.answer == f"{EXTRA}:{attempt.target}" else by


ALLOWED = {"hostport": {"hijacked", "unsettled"}, "service": {"ok", "unsettled"}, "other": set(),
           "nobody": {"hijacked", "ok", "unsettled"}}  # it got as far as a pod that is gone


def compare(report, found, tracer, status):
    records = collections.defaultdict(list)
    for record in tracer.records("connection"):
        records[hptrace.connection_key(record)].append(record["verdict"])
    # With so many a client's port is used again now and then (an UDP flow that exists still is no new decision).
    made = collections.defaultdict(list)
    seen = collections.Counter()
    problems = []
    for attempt in found:
        made[attempt.protocol, *attempt.local, attempt.address, attempt.port].append(attempt)
    for key, attempts_of in made.items():
        verdicts = records.get(key, [])
        answers = sorted(answered_by(attempt) for attempt in attempts_of)
        allowed = {verdict for by in answers for verdict in ALLOWED[by]}
        seen[" and ".join(answers), *sorted(verdicts)] += 1
        number = len(verdicts) == len(attempts_of) or key[0] == "udp" and 1 <= len(verdicts) < len(attempts_of)
        if not number and "nobody" not in answers or not allowed.issuperset(verdicts):
            problems += [f"{attempt.name}: {attempt.answer}: {verdicts}" for attempt in attempts_of]
    problems += [f"nobody made {key}: {records[key]}" for key in records.keys() - made.keys()]
    for (by, *verdicts), number in sorted(seen.items()):
        report.note(f"answered by {by}: {number} times {' '.join(verdicts) or 'no record'}")
    report.check(["every verdict fits who answered"], problems[:20])
    report.check(["both verdicts came up"], [] if seen["hostport", "hijacked"] and seen["service", "ok"] else ["no"])
    summary = tracer.records("summary")[0]
    rewritten, shown = summary["seen"] - summary["not_rewritten"], len(tracer.records("connection"))
    report.check(["nothing is unaccounted for"], [] if shown == rewritten and not summary["lost"] else [str(summary)])
    report.check(["exit status 3"], [] if status == 3 else [str(status)])
    report.note(str(summary))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hptrace", required=True, metavar="PROGRAM")
    parser.add_argument("--connections", type=int, default=5000)
    options = parser.parse_args()
    private_mounts("/var/lib/cni", "/run/netns")
    # A server whose hostPort rules go while a client is connected never hears of the client's end.
    resource.setrlimit(resource.RLIMIT_NOFILE, (65536, 65536))
    report = Report("churn: " + os.uname().release, (("WHAT", 40),))
    # Of two back ends the one whose hook was registered last wins: the hostPort's, once it has been there.
    producer = Producer("C", "legacy", [(service.ports[0].node_port, service.ports[0].protocol) for service in asked()])
    cluster = producer.cluster()
    cluster.nodes["node"].any_address = True
    KubeProxy(cluster.node, "iptables", "legacy").start()
    tracer = hptrace.Hptrace(cluster.node, options.hptrace, "--json")
    if not tracer.wait_tracing():
        report.transcript(tracer.transcript())
        report.check(["hptrace traces"], ["it does not"])
        return report.finish()
    found = []
    endpoints, hostports = Endpoints(cluster.node), Repeated(lambda: (producer.start(), producer.stop()))
    wanted = list(attempts(options.connections))
    for first in range(0, len(wanted), AT_ONCE):
        found += traffic.ask_all(cluster, wanted[first:first + AT_ONCE], silence=5)
    hostports.close()
    endpoints.close()
    status = tracer.stop()
    report.note(f"{len(found)} connections, {endpoints.changes} changes of endpoints, {2 * len(hostports.times)} of hostPorts")
    compare(report, found, tracer, status)
    cluster.close()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
