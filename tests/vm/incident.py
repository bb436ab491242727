#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The incident on real components: who really answers decides, and hptrace must say the same of every connection."""

import argparse
import os
import sys
from dataclasses import dataclass

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import hptrace  # noqa: E402
from lib.cluster import NODE  # noqa: E402
from lib.kernel import probe_modes  # noqa: E402
from lib.incident import EMPTY, MYSQL, OTHER, ROWS, Incident  # noqa: E402
from lib.netns import Namespace, private_mounts  # noqa: E402
from lib.report import Report  # noqa: E402
from lib.servers import Client  # noqa: E402

PORTS = "3306,30306,6379"
HOSTPORT = "HostPort"


@dataclass
class Destination:
    kind: str  # ClusterIP, NodePort, HostPort
    address: dict
    port: int
    service: object = None


CLUSTER_IP = Destination("ClusterIP", MYSQL.address, MYSQL.port, MYSQL)
NODE_PORT = Destination("NodePort", NODE, MYSQL.node_port, MYSQL)
OTHER_SERVICE = Destination("ClusterIP", OTHER.address, OTHER.port, OTHER)
NO_ENDPOINTS = Destination("ClusterIP", EMPTY.address, EMPTY.port, EMPTY)
PLAIN_HOSTPORT = Destination(HOSTPORT, NODE, 3306)


@dataclass
class Attempt:
    """One connection and who answered it."""

    client: str
    family: int
    protocol: str
    destination: Destination
    expected_answer: str
    reason: str  # the reason code if it is hijacked
    existing: bool = False
    answer: str = ""
    local: tuple = ("", 0)

    def key(self):
        return (self.protocol, *self.local, self.destination.address[self.family], self.destination.port)

    def cells(self):
        return [self.client + (" before" if self.existing else ""), f"ipv{self.family}", self.protocol,
                f"{self.destination.kind}:{self.destination.port}", self.answer]


class RowTest:
    def __init__(self, row, options, report, node):
        self.row, self.options, self.report = row, options, report
        self.incident = Incident(row, options.kube_proxy, node, (MYSQL, OTHER, EMPTY))
        cluster = self.incident.cluster
        self.clients = {"pod": cluster.client, "node": cluster.node, "outside": cluster.outside}
        self.names = {"mysql-b": self.incident.mysql_b, "mysql-c": self.incident.mysql_c}
        self.open_clients = []
        self.tracers = {}  # probe mode -> the hptrace that uses it

    def attempt(self, client, family, protocol, destination, keep=False, portmap_gone=False):
        """Connects and asks who answers. keep: leaves the connection open."""
        reason = ""
        if destination.kind == HOSTPORT:
            expected = "mysql-b"
        elif destination is OTHER_SERVICE:
            expected = "redis"
        elif portmap_gone or (destination is CLUSTER_IP and not self.row.cluster_ip):
            expected = "mysql-a"
        elif destination is NODE_PORT:
            expected, reason = "mysql-c", "no_accept" if self.row.kube_router else "nodeport_ipvs"
        else:
            expected, reason = "mysql-b", self.row.cluster_ip
        attempt = Attempt(client, family, protocol, destination, expected, reason, existing=keep)
        connection = Client(self.clients[client], protocol, destination.address[family], destination.port)
        attempt.answer, attempt.local = connection.ask(), connection.local
        if keep:
            self.open_clients.append((connection, attempt))
        else:
            connection.close()
        return attempt

    def run(self):
        attempts = [self.attempt("pod", family, protocol, destination, keep=True)
                    for family in (4, 6) for protocol in ("tcp", "udp") for destination in (CLUSTER_IP, NODE_PORT)]
        if not self.start_tracers():
            return
        attempts += [self.attempt(client, family, protocol, destination)
                     for destination in (CLUSTER_IP, NODE_PORT, OTHER_SERVICE, PLAIN_HOSTPORT)
                     for client in self.clients for family in (4, 6) for protocol in ("tcp", "udp")]
        if self.row.cluster_ip:
            # A Service without endpoints, by itself, refuses; here the hostPort pod answers.
            attempts += [self.attempt("pod", family, "tcp", NO_ENDPOINTS) for family in (4, 6)]
        if self.row.delete:
            self.incident.delete_pods()
            self.wait_for_the_end()
            attempts += [self.attempt("pod", family, protocol, destination, portmap_gone=True)
                         for destination in (CLUSTER_IP, NODE_PORT) for family in (4, 6) for protocol in ("tcp", "udp")]
        # A stop does not wait for connections that exist already.
        for tracer in self.tracers.values():
            hptrace.wait_until(lambda: tracer.connections().keys() >= {attempt.key() for attempt in attempts})
        failures = self.report.failures
        statuses = {probe: tracer.stop() for probe, tracer in self.tracers.items()}
        self.compare(attempts)
        for probe, tracer in self.tracers.items():
            self.check_end(probe, tracer, statuses[probe])
        if self.tracers and (self.row.delete or not self.row.cluster_ip):
            self.check_existing()
        if self.report.failures > failures:
            for tracer in self.tracers.values():
                self.report.transcript(tracer.transcript())

    def start_tracers(self):
        """One hptrace per probe mode, side by side: each must see every connection."""
        for probe in self.options.probe.split(",") if self.options.hptrace else ():
            self.tracers[probe] = hptrace.Hptrace(self.incident.cluster.node, self.options.hptrace, "--port", PORTS,
                                                  "--json", "--probe", probe)
        started = True
        for probe, tracer in self.tracers.items():
            if tracer.wait_tracing():
                self.report.note(f"{self.row.name}: --probe {probe}: {tracer.stderr[-1]}")
            else:
                started = False
                self.report.check([self.row.name, "start", "", "", probe], ["it did not reach `hptrace: tracing`"])
                tracer.stop()
                self.report.transcript(tracer.transcript())
        if not started:
            for tracer in self.tracers.values():
                tracer.stop()
        return started

    def wait_for_the_end(self):
        """Of all conflicts. A slow machine may take longer to read the rules than a connection waits for its verdict."""
        for probe, tracer in self.tracers.items():
            taken = {record["conflict_id"] for record in tracer.records("conflict") if record["winner"] == "hostport"}
            ended = hptrace.wait_until(
                lambda: {record["conflict_id"] for record in tracer.records("conflict_ended")} >= taken)
            self.report.check([self.row.name, "conflicts end", "", "", probe],
                              [] if ended else [f"{sorted(taken)}: not all of them did"])

    def compare(self, attempts):
        """Every connection has one record of each hptrace, and they agree with who answered."""
        self.records = {probe: tracer.connections() for probe, tracer in self.tracers.items()}
        for attempt in attempts:
            problems, verdicts, reasons = [], [], []
            if attempt.answer != attempt.expected_answer:
                problems.append(f"should have been answered by {attempt.expected_answer}")
            for probe, records in self.records.items():
                mine = records.pop(attempt.key(), [])
                if len(mine) != 1:
                    problems.append(f"{probe}: {len(mine)} records for {attempt.key()}: {mine}")
                else:
                    verdicts.append(mine[0].get("verdict", ""))
                    reasons.append(mine[0].get("reason_code", ""))
                    problems += [f"{probe}: {problem}" for problem in self.disagreements(attempt, mine[0])]
            self.report.check([self.row.name, *attempt.cells(), "/".join(sorted(set(verdicts))),
                               "/".join(sorted(set(reasons)))], problems)

    def check_end(self, probe, tracer, status):
        problems = [f"a connection nobody made: {record}" for left in self.records[probe].values() for record in left]
        announced = {record.get("conflict_id") for record in tracer.records("conflict")
                     if record.get("winner") == "hostport"}
        problems += [f"{conflict} was not announced before the connections" for conflict in sorted(
            {record.get("conflict_id", "") for record in tracer.records("connection")
             if record.get("verdict") == "hijacked"} - announced)]
        for kind in ("lost", "gap", "not JSON"):
            problems += [f"{kind}: {record}" for record in tracer.records(kind)]
        summaries = tracer.records("summary")
        if len(summaries) != 1 or summaries[0].get("exit_status") != 3:
            problems.append(f"summary: {summaries}")
        if status != 3:
            problems.append(f"exit status {status}, not 3")
        self.report.check([self.row.name, "end", "", "", probe, "", f"status {status}"], problems)

    def disagreements(self, attempt, record):
        """What in the record does not agree with who answered."""
        family, destination = attempt.family, attempt.destination
        expected = {"netns": self.incident.cluster.node.inode(), "protocol": attempt.protocol,
                    "existing": attempt.existing}
        if attempt.answer in self.names:
            pod = self.names[attempt.answer]
            backend = "iptables-" + self.incident.portmap_backend
            expected |= {"verdict": "hijacked" if destination.service else "hostport", "mechanism": "nf_nat",
                         "rewritten.ip": pod.addresses[family], "rewritten.port": 3306,
                         "rewritten.pod": {"namespace": "default", "name": pod.name},
                         "rule.producer": "portmap", "rule.backend": backend, "rule.table": "nat",
                         "rule.family": "ip" if family == 4 else "ip6", "rule.chain": pod.chain,
                         "rule.network": pod.network, "rule.container_id": pod.container_id}
        elif destination.service:
            address, port = destination.service.endpoint[family]
            expected |= {"verdict": "ok", "mechanism": "ip_vs", "rewritten.ip": address, "rewritten.port": port}
        if destination.service:
            expected["original.service.kind"] = destination.kind
        if attempt.client == "pod":
            expected["client.pod"] = {"namespace": "default", "name": "app-1"}
        problems = [f"{path} is {_get(record, path)!r}, not {value!r}"
                    for path, value in expected.items() if _get(record, path) != value]
        if expected.get("verdict") == "hijacked":
            endpoints = [dict(zip(("ip", "port"), endpoint)) for endpoint in (destination.service.endpoint.get(family),)
                         if endpoint]
            if record.get("expected", []) != endpoints or record.get("expected_total") != len(endpoints):
                problems.append(f"expected is {record.get('expected')!r}, not {endpoints}")
            if record.get("reason_code") != attempt.reason:
                problems.append(f"reason_code is {record.get('reason_code')!r}, not {attempt.reason!r}")
            for words in ("reason", "advice", "conflict_id"):
                if not record.get(words):
                    problems.append(f"no {words}")
            if pod.name not in record.get("advice", ""):
                problems.append(f"the advice does not name {pod.name}: {record.get('advice')!r}")
        return problems

    def check_existing(self):
        """`--existing` says the same of the open connections; after DEL no rule explains the hijacked ones: `stale`."""
        program = hptrace.run(self.incident.cluster.node, self.options.hptrace, "--port", PORTS, "--json", "--existing")
        records = {hptrace.connection_key(record): record for record in program.records("connection")}
        alarm = False
        for connection, attempt in self.open_clients:
            hijacked = attempt.answer in self.names
            wanted = ("stale" if self.row.delete else "hijacked") if hijacked else "ok"
            alarm |= hijacked
            attempt.answer = connection.ask()
            problems = [] if attempt.answer == attempt.expected_answer else ["the open connection changed its server"]
            record = records.get(attempt.key(), {})
            if record.get("verdict") != wanted:
                problems.append(f"--existing says {record.get('verdict')}, not {wanted}")
            self.report.check([self.row.name, *attempt.cells(), record.get("verdict"), record.get("reason_code", "")],
                              problems)
        problems = [] if program.status == (3 if alarm else 0) else [f"exit status {program.status}"]
        self.report.check([self.row.name, "end", "", "", "--existing", "", f"status {program.status}"], problems)
        if problems:
            self.report.transcript(program.transcript())

    def close(self):
        for connection, _ in self.open_clients:
            connection.close()
        self.incident.close()


def _get(record, path):
    for name in path.split("."):
        record = record.get(name) if isinstance(record, dict) else None
    return record


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hptrace", help="the binary under test; without it only the scenario itself is tested")
    parser.add_argument("--probe", help="probe modes, side by side (default: all that work here)")
    parser.add_argument("--kube-proxy", choices=("legacy", "nft"), default="legacy", help="its iptables back end")
    parser.add_argument("--rows", default=",".join(row.name for row in ROWS))
    parser.add_argument("--own-namespace", default="other-backend", metavar="ROW",
                        help="this row's node is the namespace the test runs in; its state is left behind")
    options = parser.parse_args()

    options.probe = options.probe or ",".join(probe_modes())
    private_mounts("/run/netns", "/var/lib/cni", "/var/lib/kubelet", "/var/log/pods")
    report = Report(f"incident on {os.uname().release}: kube-proxy iptables-{options.kube_proxy}, "
                    + (f"hptrace --probe {options.probe}" if options.hptrace else "no hptrace"),
                    (("ROW", 13), ("CLIENT", 14), ("IP", 4), ("PROT", 4), ("DESTINATION", 15), ("ANSWERED BY", 11),
                     ("HPTRACE", 9), ("REASON", 25)))
    rows = [row for row in ROWS if row.name in options.rows.split(",")]
    rows.sort(key=lambda row: row.name == options.own_namespace)  # last: it leaves its rules behind
    for row in rows:
        node = Namespace.adopt("node") if row.name == options.own_namespace else None
        test = RowTest(row, options, report, node)
        report.note(f"{row.name}: cluster built")
        try:
            test.run()
        finally:
            test.close()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
