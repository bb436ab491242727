#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Every kind of ip_vs service, with and without its conntrack: one record for each connection that is rewritten, none for
what is only forwarded or scheduled packet by packet, which the summary counts."""

import argparse
import os
import socket
import subprocess
import sys
from dataclasses import dataclass

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import hptrace  # noqa: E402
from lib.cluster import MYSQL_A, MYSQL_B, REDIS, Cluster  # noqa: E402
from lib.kernel import probe_modes  # noqa: E402
from lib.kubeproxy import host_port  # noqa: E402
from lib.netns import private_mounts  # noqa: E402
from lib.report import Report  # noqa: E402
from lib.servers import ask_once  # noqa: E402

PORT = 3306
DATAGRAMS = 5  # of each flow that is scheduled packet by packet
MARKS = {"firewall mark": 7, "mark, persistent": 8}


@dataclass
class Kind:
    """A kind of ip_vs service, at an address of its own."""

    name: str
    number: int
    options: tuple = ()
    protocols: tuple = ("tcp", "udp", "sctp")
    servers: tuple = ((MYSQL_A, 3306), (REDIS, 6379))
    method: str = "-m"
    verdict: str = "ok"  # "" if it is not rewritten

    def address(self, family):
        return f"10.96.1.{self.number}" if family == 4 else f"fd00:10:96::1:{self.number}"


KINDS = (Kind("round robin", 1),
         Kind("persistent", 2, ("-p", "300")),
         Kind("firewall mark", 3, protocols=("tcp", "udp"), verdict="other"),
         # It leaves the port as it is (ip_vs_sched_persist).
         Kind("mark, persistent", 4, ("-p", "300"), protocols=("tcp",), servers=((MYSQL_A, PORT),), verdict="other"),
         # No UDP: those servers would answer from another address.
         Kind("direct routing", 5, protocols=("tcp", "sctp"), servers=((MYSQL_B, PORT),), method="-g", verdict=""),
         Kind("tunnel", 6, protocols=("tcp", "sctp"), servers=((MYSQL_A, PORT),), method="-i", verdict=""))
ONE_PACKET = Kind("one packet", 7, ("-o",), protocols=("udp",))
EACH = 3  # connections


class IpvsTest:
    def __init__(self, binary, report):
        self.binary, self.report = binary, report
        self.probes = probe_modes()
        subprocess.run(["modprobe", "-a", "sctp", "ip_vs_rr", "ipip", "ip6_tunnel"], check=True)
        self.cluster = Cluster()
        self.node = self.cluster.node
        for server, port in ((self.cluster.mysql_a, 3306), (self.cluster.mysql_b, 3306), (self.cluster.redis, 6379)):
            self.cluster.servers.add(server, server.name, port, ("sctp",))
        self._services()
        self._real_servers()

    def _services(self):
        self.node.ip("link add vips type dummy\nlink set vips up\n")
        lines = []
        for kind in (*KINDS, ONE_PACKET):
            for family in (4, 6):
                self.node.ip(f"address add {kind.address(family)}/{32 if family == 4 else 128} dev vips\n")
                names = [f"--{protocol}-service {host_port(kind.address(family), PORT)}" for protocol in kind.protocols]
                if kind.name in MARKS:
                    names = [f"-f {MARKS[kind.name]}" + (" -6" if family == 6 else "")]
                    self.node.run("iptables" if family == 4 else "ip6tables", "-t", "mangle", "-A", "PREROUTING",
                                  "-d", kind.address(family), "-j", "MARK", "--set-mark", str(MARKS[kind.name]))
                for name in names:
                    lines.append(f"-A {name} -s rr {' '.join(kind.options)}")
                    lines += [f"-a {name} -r {host_port(address[family], port)} {kind.method} -w 1"
                              for address, port in kind.servers]
        self.node.run("ipvsadm", "-R", stdin="\n".join(lines) + "\n")

    def _real_servers(self):
        """What is forwarded unchanged must find its destination at the real server, and the answer its way back."""
        direct, tunnel = (next(kind for kind in KINDS if kind.method == method) for method in ("-g", "-i"))
        for server, kind in ((self.cluster.mysql_b, direct), (self.cluster.mysql_a, tunnel)):
            server.ip(f"address add {kind.address(4)}/32 dev lo\naddress add {kind.address(6)}/128 dev lo nodad\n")
        self.cluster.mysql_a.ip(f"link add from4 type ipip local {MYSQL_A[4]}\nlink set from4 up\n"
                                f"link add from6 type ip6tnl mode ip6ip6 local {MYSQL_A[6]}\nlink set from6 up\n")
        for interface in ("all", "from4"):
            self.cluster.mysql_a.sysctl(f"net/ipv4/conf/{interface}/rp_filter", 0)
        for interface in ("all", "uplink"):
            self.node.sysctl(f"net/ipv4/conf/{interface}/rp_filter", 0)
        self.node.sysctl("net/ipv4/conf/uplink/accept_local", 1)  # the answer's source is this node's address, too

    def phase(self, conntrack):
        self.node.sysctl("net/ipv4/vs/conntrack", conntrack)
        tracers = {probe: hptrace.Hptrace(self.node, self.binary, "--json", "--port", str(PORT), "--probe", probe)
                   for probe in self.probes}
        ready = all([tracer.wait_tracing() for tracer in tracers.values()])
        made = self._connect() if ready else []
        packets = self._datagrams() if ready else 0
        for tracer in tracers.values():
            tracer.stop()
        records = {probe: tracer.connections() for probe, tracer in tracers.items()}
        for kind, family, protocol, answers, keys in made:
            problems = self._wrong(kind, family, answers, keys, records)
            self.report.check([f"conntrack={conntrack}", kind.name, f"ipv{family}", protocol, "/".join(sorted(set(answers)))],
                              problems)
        # Their flow is one more that nf_nat, where it has hooks, leaves as it is.
        unchanged = sum(len(keys) for kind, *_, keys in made if not kind.verdict) + 2 * conntrack
        for probe, tracer in tracers.items():
            summary = (tracer.records("summary") or [{}])[-1]
            problems = [] if ready else ["not all came to `hptrace: tracing`"]
            problems += [f"nobody made {key}" for key in records[probe]]
            problems += [f"{name} is {summary.get(name)}, not {wanted}" for name, wanted
                         in (("not_rewritten", unchanged), ("one_packet", packets), ("lost", 0))
                         if summary.get(name) != wanted]
            self.report.check([f"conntrack={conntrack}", "summary", "", probe, ""], problems)
            if problems:
                self.report.transcript(tracer.transcript())

    def _connect(self):
        made = []
        for kind in KINDS:
            for family in (4, 6):
                for protocol in kind.protocols:
                    asked = [ask_once(self.cluster.client, protocol, kind.address(family), PORT) for _ in range(EACH)]
                    made.append((kind, family, protocol, [answer for answer, _ in asked],
                                 [(protocol, *local, kind.address(family), PORT) for _, local in asked]))
        return made

    def _datagrams(self):
        """Sends them; returns how many there are, once ip_vs has counted all."""
        before = self._counted()
        for family, kind in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            with self.cluster.client, socket.socket(kind, socket.SOCK_DGRAM) as client:
                for _ in range(DATAGRAMS):
                    client.sendto(b"hello\n", (ONE_PACKET.address(family), PORT))
        hptrace.wait_until(lambda: self._counted() >= before + 2 * DATAGRAMS)
        return 2 * DATAGRAMS

    def _counted(self):
        """Schedulings of the one-packet services, by ip_vs' own count."""
        lines = self.node.run("ipvsadm", "-Ln", "--stats", "--exact").splitlines()
        return sum(int(line.split()[2]) for line in lines
                   if any(line.split()[1:2] == [host_port(ONE_PACKET.address(family), PORT)] for family in (4, 6)))

    @staticmethod
    def _wrong(kind, family, answers, keys, records):
        """Takes the connections' records out of `records`."""
        names = {(MYSQL_A[family], 3306): "mysql-a", (REDIS[family], 6379): "redis"}
        persistent = "-p" in kind.options
        problems = [f"answered by {answers}"] if any(answer.startswith("(") for answer in answers) else []
        if persistent and len(set(answers)) != 1:
            problems.append(f"not persistent: {answers}")
        for probe, found in records.items():
            for key, answer in zip(keys, answers):
                mine = [(record["verdict"], record["mechanism"],
                         names.get((record["rewritten"]["ip"], record["rewritten"]["port"])))
                        for record in found.pop(key, [])]
                wanted = [(kind.verdict, "ip_vs", answer)] if kind.verdict else []
                if mine != wanted:
                    problems.append(f"{probe} {key}: {mine}, not {wanted}")
        return problems

    def run(self):
        self.phase(0)
        for command in ("iptables", "ip6tables"):  # its hooks bind every connection
            self.node.run(command, "-t", "nat", "-A", "POSTROUTING", "-d", "192.0.2.1" if command == "iptables" else
                          "2001:db8::1", "-j", "MASQUERADE")
        self.phase(1)
        # By now all that can be traced is loaded.
        for probe in hptrace.run(self.node, self.binary, "doctor", "--json").records("doctor")[0]["probes"]:
            self.report.note(f"doctor: {probe['function']}: {probe['mode']}")
        self.cluster.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hptrace", required=True, help="the binary under test")
    options = parser.parse_args()
    private_mounts("/run/netns", "/var/lib/cni")
    report = Report(f"ip_vs on {os.uname().release}", (("CONNTRACK", 11), ("SERVICE", 17), ("IP", 4), ("PROTOCOL", 8),
                                                       ("ANSWERED BY", 14)))
    IpvsTest(options.hptrace, report).run()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
