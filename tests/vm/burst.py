#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Many connections at once, and connections whose probes the kernel skips: what is not shown is counted as lost."""

import argparse
import json
import os
import socket
import struct
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import hptrace  # noqa: E402
from lib.busy_maps import BusyMaps  # noqa: E402
from lib.cluster import MYSQL_B, NODE, Cluster  # noqa: E402
from lib.incident import OTHER  # noqa: E402
from lib.kernel import probe_modes  # noqa: E402
from lib.kubeproxy import KubeProxy  # noqa: E402
from lib.netns import private_mounts  # noqa: E402
from lib.portmap import Pod, Portmap  # noqa: E402
from lib.report import Report  # noqa: E402
from lib.slow_function import SlowFunction  # noqa: E402

PORT = 3306
FIRST_PORT, PORTS = 2000, 60_000  # a client address has so many
SKIPPED_PROBES = "skipped probes"
NESTED_PROBES = "nested probes"
# Of which modes each of them skips probes for certain.
SKIPS = {SKIPPED_PROBES: ("kprobe",), NESTED_PROBES: ("fexit", "kprobe")}
SKIPPED = 200  # connections while probes are skipped
HELD = "8s"  # longer than it takes to send them: a packet may go with the next one sent, outside of any map operation
CROWD = 100  # connections from the node between two looks at what is held
APART = 0.02  # seconds between them: packets that crowd are left to ksoftirqd, which is in no map operation either


class BurstTest:
    def __init__(self, options, report):
        self.binary, self.report, self.connections = options.hptrace, report, options.connections
        self.probes = probe_modes()
        subprocess.run(["modprobe", "-a", "nf_nat", "sch_netem"], check=True)
        self.cluster = Cluster()
        for key in ("nf_conntrack_max", "nf_conntrack_buckets"):
            with open(f"/proc/sys/net/netfilter/{key}", "w", encoding="ascii") as file:
                file.write(str(4 * self.connections))
        self.cluster.node.sysctl("net/netfilter/nf_conntrack_udp_timeout", 3600)
        KubeProxy(self.cluster.node, "", (OTHER,)).start_ipvs_only()
        # iptables-nft: under a rule of iptables-legacy no softirq comes through, so a decision is never nested.
        Portmap(self.cluster.node, "nft", Pod(self.cluster.mysql_b, "mysql-b-0", MYSQL_B), [(PORT, PORT, "udp")]).add()
        self.addresses = [f"10.224.0.{100 + number}" for number in range(-(-self.connections // PORTS) + 1)]
        self.cluster.client.ip("".join(f"address add {address}/24 dev eth0\n" for address in self.addresses))
        report.note("cluster built")

    def trace(self, what, send):
        """Calls `send`, which returns who it has sent from, while an hptrace of every mode looks on."""
        tracers = {probe: hptrace.Hptrace(self.cluster.node, self.binary, "--json", "--port", str(PORT), "--proto", "udp",
                                          "--probe", probe) for probe in self.probes}
        ready = all([tracer.wait_tracing() for tracer in tracers.values()])
        made = send() if ready else set()
        self.report.note(f"{what}: {len(made)} connections made")
        statuses = {probe: tracer.stop() for probe, tracer in tracers.items()}
        for probe, tracer in tracers.items():
            self.check(what, probe, tracer, made, statuses[probe])

    def check(self, what, probe, tracer, made, status):
        records = [(record["client"]["ip"], record["client"]["port"]) for record in tracer.each("connection")
                   if not record["existing"]]
        shown = set(records)
        lost = tracer.losses()
        summary = (tracer.records("summary") or [{}])[-1]
        # A skipped probe may be that of a decision, of a commit, or of both.
        at_most = len(shown) + sum(count for where, count in lost.items() if where != "commit")
        at_least = len(shown) + lost.get("ring_buffer", 0) + lost.get("pending", 0)
        problems = [] if made else ["not all of them came to `hptrace: tracing`"]
        if len(records) != len(shown):
            problems.append(f"{len(records)} records of {len(shown)} connections")
        problems += [f"nobody made {client}" for client in sorted(shown - made)[:5]]
        if at_least > len(made):
            problems.append(f"more is shown and lost than was made: {lost}")
        if at_most < len(made) and not self.uncounted(tracer):
            problems.append(f"{len(made) - at_most} connections are unaccounted for")
        if probe in SKIPS.get(what, ()) and not lost.get("missed_probes") and not (self.uncounted(tracer) and made - shown):
            problems.append("no probe was skipped: this check proves nothing")
        if status != (4 if summary.get("lost") else 0):
            problems.append(f"exit status {status}")
        if summary.get("lost") != sum(count for where, count in lost.items() if where != "commit"):
            problems.append(f"the summary counts {summary.get('lost')}, the lost records say {lost}")
        self.report.check([what, probe, len(made), len(shown), " ".join(f"{where} {n}" for where, n in lost.items()) or "-"],
                          problems)
        if problems:
            self.report.transcript("\n".join([*tracer.transcript().splitlines()[:5], *tracer.stderr, str(summary)]))

    @staticmethod
    def uncounted(tracer):
        """It says that this kernel skips probes without counting."""
        return any("does not count" in line for line in tracer.stderr)

    def burst(self):
        made = set()
        for number in range(self.connections):
            made.add(self.send(self.cluster.client, self.addresses[number // PORTS], FIRST_PORT + number % PORTS))
        return made

    def skipped(self):
        """Held packets come amid map operations, during which the kernel runs no kprobe program."""
        with BusyMaps():
            return self.send_held(FIRST_PORT)

    def nested(self):
        """Held packets come while hptrace's programs are at work for others: the kernel runs neither the same program
        again (recursion_misses) nor a kprobe within another (nmissed)."""
        made = set()
        with self.cluster.node:
            node = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)  # a system call for each connection

        def connect_from_node():
            for port in range(FIRST_PORT + len(made), FIRST_PORT + len(made) + CROWD):
                node.sendto(struct.pack("!HHHH6s", port, PORT, 14, 0, b"hello\n"), (NODE[4], PORT))
                made.add((NODE[4], port))

        with node, SlowFunction("bpf_ktime_get_boot_ns"):  # which every record asks for
            return self.send_held(FIRST_PORT + SKIPPED, connect_from_node) | made

    def send_held(self, first_port, meanwhile=lambda: time.sleep(0.5)):
        """Sends, but the packets are held until all are sent, then come by a timer, amid what its processor does.
        first_port: of the clients. meanwhile: is done again and again until they have come."""
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(everywhere)})  # the timer's processor is the sender's
        client = self.cluster.client
        client.run("tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", HELD, "limit", str(10 * SKIPPED))
        made = set()
        for number in range(SKIPPED):
            made.add(self.send(client, self.addresses[-1], first_port + number))
            time.sleep(APART)
        while json.loads(client.run("tc", "-s", "-j", "qdisc", "show", "dev", "eth0"))[0]["qlen"]:
            meanwhile()
        client.run("tc", "qdisc", "del", "dev", "eth0", "root")
        os.sched_setaffinity(0, everywhere)
        return made

    @staticmethod
    def send(namespace, address, port):
        with namespace, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((address, port))
            client.sendto(b"hello\n", (NODE[4], PORT))
        return address, port

    def run(self):
        self.trace("burst", self.burst)
        self.trace(SKIPPED_PROBES, self.skipped)
        if "fexit" in self.probes:  # within a kprobe no other one makes a function slow
            self.trace(NESTED_PROBES, self.nested)
        self.cluster.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hptrace", required=True, help="the binary under test")
    parser.add_argument("--connections", type=int, default=5_000, help="of the burst (%(default)s)")
    options = parser.parse_args()
    private_mounts("/run/netns", "/var/lib/cni")
    report = Report(f"bursts on {os.uname().release}", (("WHAT", 16), ("PROBE", 7), ("MADE", 7), ("SHOWN", 7), ("LOST", 30)))
    BurstTest(options, report).run()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
