#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Every cell of the truth table: who really answers, what the table says, and what hptrace says.

What the real kube-proxy wrote (tests/dumps) is put onto a node in each of its modes, and the real portmap plugin (the
versions of scripts/cni-plugins) adds hostPorts on the ports of Services, before or after it and through each back end.
Every kind of destination is asked for from a pod, from the node and from outside, IPv4 and IPv6: the answer must be
truth/table.py's, hptrace's live verdict and reason code must fit the answer, and its audit must not contradict it."""

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass

sys.dont_write_bytecode = True
here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [here, os.path.join(here, "..", "kube")]

from lib import hptrace  # noqa: E402
from lib.netns import private_mounts  # noqa: E402
from lib.report import Report  # noqa: E402
from tier import services, traffic  # noqa: E402
from tier.verdicts import Watch  # noqa: E402
from truth import table  # noqa: E402
from truth.kube import KubeProxy  # noqa: E402
from truth.producers import Producer  # noqa: E402

MODULES = ("br_netfilter", "ip_vs", "ip_vs_rr", "ip_vs_sh", "ip_set", "dummy")

ASKED = ("mysql-a", "nodeport", "nodeport-local", "nodeport-local-elsewhere", "balancer", "balancer-ranges", "external",
         "external-on-node", "no-endpoints", "syslog")


@dataclass
class Setting:
    """first: who comes first, "kube-proxy" or "portmap". restarted: kube-proxy is, at the end."""

    mode: str
    kube_backend: str  # xtables back end of kube-proxy; in nftables mode of portmap in column A
    column: str
    first: str = "kube-proxy"
    restarted: bool = False

    @property
    def hostport_last(self):
        return self.first == "kube-proxy" and not self.restarted

    def cells(self):
        order = "portmap first" if self.first == "portmap" else "kube-proxy restarted" if self.restarted else "kube-proxy first"
        return [self.mode, "" if self.mode == "kube-router" else self.kube_backend, self.column, order]


def settings():
    for backend in ("legacy", "nft"):
        yield Setting("iptables", backend, "A")
        yield Setting("iptables", backend, "A0")
        for column in ("B", "C", "D"):
            yield Setting("iptables", backend, column)
            yield Setting("iptables", backend, column, "portmap")
    for column in table.COLUMNS:
        yield Setting("ipvs", "legacy", column)
    for column in ("A", "B", "C"):
        yield Setting("ipvs", "nft", column)
    for column in ("B", "C"):
        yield Setting("ipvs", "legacy", column, "portmap")
    for column in ("A", "C", "D"):
        yield Setting("kube-router", "nft", column)
    for column in ("A", "B", "C", "D"):
        yield Setting("nftables", "nft", column)
        yield Setting("nftables", "nft", column, "portmap")
    yield Setting("nftables", "nft", "C", restarted=True)


def in_brief(setting):
    """One of every kind of cell; the whole table takes a quarter of an hour where machines are emulated."""
    return setting in (Setting("iptables", "nft", "A"), Setting("iptables", "legacy", "B"),
                       Setting("iptables", "legacy", "B", "portmap"), Setting("iptables", "nft", "D"),
                       Setting("ipvs", "nft", "A"), Setting("ipvs", "legacy", "A0"), Setting("ipvs", "legacy", "B"),
                       Setting("kube-router", "nft", "C"), Setting("nftables", "nft", "C"),
                       Setting("nftables", "nft", "C", restarted=True))


def attempts():
    for service in services.SERVICES:
        if service.name not in ASKED:
            continue
        for kind, family, address, port, number in service.destinations():
            for client in traffic.CLIENTS:
                yield traffic.Attempt(client, port.protocol, kind, family, address, number, service, port.target)
    for family in services.FAMILIES:
        for client in traffic.CLIENTS:
            yield traffic.Attempt(client, "tcp", "HostPort", family, services.NODE[family], services.HOSTPORT_ONLY)


def hostports():
    return sorted({(attempt.port, attempt.protocol) for attempt in attempts()})


class SettingTest:
    def __init__(self, setting, binary):
        self.setting, self._binary = setting, binary
        self.problems = []
        self._taken = {}  # (row of the table, is it the node's own) -> whether the hostPort answered, for each attempt

    def run(self):
        setting = self.setting
        producer = Producer(setting.column, setting.kube_backend, hostports())
        cluster = producer.cluster()
        try:
            cluster.node.ip("".join(f"address add {address}/{32 if family == 4 else 128} dev eth0"
                                    f"{' nodad' if family == 6 else ''}\n"
                                    for family, address in table.LOCAL_BALANCER.items()))
            kube_proxy = KubeProxy(cluster.node, setting.mode, setting.kube_backend)
            for step in (kube_proxy, producer) if setting.first == "kube-proxy" else (producer, kube_proxy):
                step.start()
            if setting.restarted:
                kube_proxy.restart()
            with Watch(self._binary, cluster.node) as watch:
                found = traffic.ask_all(cluster, attempts(), silence=4)
            for attempt in found:
                self._check(attempt)
            self.problems += watch.disagreements(found, lambda attempt: table.expected(setting, attempt).reasons)
            if self._binary:
                audit = hptrace.run(cluster.node, self._binary, "audit", "--json")
                self._compare(audit, found)
        finally:
            cluster.close()

    def observed(self, row):
        """As in the table: forwarded packets, then the node's own; S*: the hostPort answered some."""
        letters = {frozenset((True,)): "H", frozenset((False,)): "S", frozenset((True, False)): "S*", frozenset(): ""}
        return " ".join(letters[frozenset(self._taken.get((row, own), ()))] for own in (False, True)).strip()

    def _check(self, attempt):
        wanted = table.expected(self.setting, attempt)
        if attempt.service:
            place = table.row_of(self.setting.mode, attempt), attempt.client == "node"
            self._taken.setdefault(place, set()).add(attempt.by() == "hostport")
        if attempt.by() != wanted.answer:
            self.problems.append(f"{attempt.name}: {attempt.by()} {attempt.answer}, the table says {wanted.answer}")

    def _key(self, protocol, kind, address, port):
        """What a prediction is for. A NodePort is the same on all addresses; kube-router's kinds are guesses."""
        return (protocol, "*" if kind == "NodePort" or self.setting.mode == "kube-router" else address, port)

    def _compare(self, audit, found):
        """What `hptrace audit` predicts against the answers: "depends" fits any, a winner must have won everywhere, or
        where the reason applies."""
        if audit.status not in (0, 3):
            self.problems.append(f"audit ended with status {audit.status}\n{audit.transcript()}")
        winners = {}  # (winner, reason code)
        for conflict in audit.records("conflict"):
            original = conflict["original"]
            kind = original["service"]["kind"]
            winners[self._key(conflict["protocol"], kind, original.get("ip", ""), original["port"])] = \
                (conflict["winner"], conflict.get("reason_code"))
        answers = {}
        for attempt in found:
            if attempt.service:
                key = self._key(attempt.protocol, attempt.kind, attempt.address, attempt.port)
                answers.setdefault(key, set()).add(attempt.by() == "hostport")
        for key, taken in answers.items():
            winner, reason = winners.get(key, ("service", None))
            fits = {"depends": True, "service": taken == {False}, "hostport": taken == {True}}[winner]
            if winner == "hostport" and reason in ("etp_local", "lb_source_ranges"):
                fits = True in taken
            if not fits:
                self.problems.append(f"audit: {' '.join(map(str, key))}: winner {winner}, but the hostPort answered "
                                     f"{'always' if taken == {True} else 'never' if taken == {False} else 'some'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hptrace", default="", metavar="PROGRAM")
    parser.add_argument("--mode", action="append", default=[], choices=table.TABLE, help="only this one; may be repeated")
    parser.add_argument("--column", action="append", default=[], choices=table.COLUMNS)
    parser.add_argument("--brief", action="store_true", help="only one of every kind of cell")
    options = parser.parse_args()
    private_mounts("/var/lib/cni", "/run/netns")
    for module in MODULES:
        subprocess.run(["modprobe", module], check=True)
    report = Report("the truth table: " + os.uname().release,
                    (("MODE", 11), ("KUBE", 6), ("HOSTPORT", 8), ("ORDER", 20), *((row, 10) for row in table.ROWS)))
    for setting in settings():
        if options.mode and setting.mode not in options.mode or options.column and setting.column not in options.column:
            continue
        if options.brief and not in_brief(setting):
            continue
        test = SettingTest(setting, options.hptrace)
        test.run()
        report.check([*setting.cells(), *map(test.observed, table.ROWS)], test.problems)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
