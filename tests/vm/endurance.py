#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Weeks in an hour: connections by the hundred thousand while the service runs and what it watches changes.

UDP, since one packet is one connection: to a Service that a hostPort takes while its pod is there, and to another one.
Meanwhile the pod comes and goes, journald is restarted, the Kubernetes API goes and comes back, and all iptables-nft rules are
flushed. Each connection must be in
the metrics, as a verdict or a loss; memory and descriptors must be after the last what they were after the first fifth."""

import argparse
import os
import re
import socket
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib.cluster import MYSQL_B, Cluster  # noqa: E402
from lib.incident import MYSQL, OTHER  # noqa: E402
from lib.kube_api import KubeApi  # noqa: E402
from lib.kubeproxy import KubeProxy  # noqa: E402
from lib.netns import private_mounts  # noqa: E402
from lib.portmap import Pod, Portmap  # noqa: E402
from lib.report import Report  # noqa: E402
from lib.systemd import Installed, Systemd, outer_pid, wait_for  # noqa: E402

UNIT = "hptrace.service"
FIRST_PORT, PORTS = 2000, 60_000  # a client address has so many
BATCH = 500
PAUSE = 0.05  # seconds between two batches
ALLOWED_GROWTH = 1 << 20
JOURNALD = "systemd-journald.service"


class EnduranceTest:
    def __init__(self, options, report):
        self.connections, self.report = options.connections, report
        subprocess.run(["modprobe", "nf_nat"], check=True)
        self.cluster = Cluster()
        for key in ("nf_conntrack_max", "nf_conntrack_buckets"):
            with open(f"/proc/sys/net/netfilter/{key}", "w", encoding="ascii") as file:
                file.write(str(1 << 18))
        KubeProxy(self.cluster.node, "legacy", (MYSQL, OTHER)).start_kube_proxy()
        # After kube-proxy, which sets a longer one. A flow that is gone before its port comes again is a new decision then.
        self.cluster.node.sysctl("net/netfilter/nf_conntrack_udp_timeout", 20)
        self.addresses = [f"10.224.0.{100 + number}" for number in range(-(-self.connections // PORTS))]
        self.cluster.client.ip("".join(f"address add {address}/24 dev eth0\n" for address in self.addresses))
        self.portmap = Portmap(self.cluster.node, "nft", Pod(self.cluster.mysql_b, "mysql-b-0", MYSQL_B), [(3306, 3306, "udp")])
        self.api = KubeApi(self.cluster.node, "/run/kube-api", (MYSQL, OTHER))
        installed = Installed(options.installed)
        drop_in = (f"[Service]\nExecStart=\nExecStart={installed.program} --journald --metrics 127.0.0.1:9755 "
                   f"--kubeconfig {self.api.kubeconfig}\n"
                   f"NetworkNamespacePath={self.cluster.node.path}\nTimeoutStartSec=300\n")
        self.systemd = Systemd({UNIT: installed.unit, f"{UNIT}.d/test.conf": drop_in})
        self.systemd.run("start", UNIT)
        self.pid = outer_pid("hptrace")
        self.over = threading.Event()
        self.rules = threading.Lock()  # portmap needs what it has made a moment ago

    def used(self):
        """Bytes of its own memory, descriptors."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            anonymous = int(re.search(r"^RssAnon:\s+(\d+) kB", file.read(), re.MULTILINE).group(1))
        return anonymous << 10, len(os.listdir(f"/proc/{self.pid}/fd"))

    def least_used(self):
        """Within a while: a list from the API takes memory until it is read."""
        samples = []
        for _ in range(20):
            samples.append(self.used())
            time.sleep(0.5)
        return min(memory for memory, _ in samples), min(descriptors for _, descriptors in samples)

    def metrics(self):
        """By name with labels."""
        with self.cluster.node, socket.create_connection(("127.0.0.1", 9755), 60) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            answer = b""
            while part := client.recv(65536):
                answer += part
        lines = answer.decode().partition("\r\n\r\n")[2].splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}

    def accounted(self):
        return int(sum(value for name, value in self.metrics().items()
                       if name.startswith(("hptrace_connections_total", "hptrace_lost_total")) and 'where="commit"' not in name))

    def send(self):
        """All connections, in order, to the one Service and the other. Stops in between to do what `events` say: after so
        many."""
        events = {self.connections * part // 10 // BATCH * BATCH: what for part, what in
                  ((2, self.measure), (3, self.lose_api), (4, self.restart_journald), (5, self.regain_api),
                   (6, self.flush_rules), (8, self.restart_journald))}
        for first in range(0, self.connections, BATCH):
            if first in events:
                events[first]()
            with self.cluster.client:
                for number in range(first, min(first + BATCH, self.connections)):
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                        client.bind((self.addresses[number // PORTS], FIRST_PORT + number % PORTS))
                        client.sendto(b"hello\n", ((MYSQL, OTHER)[number % 2].address[4], (MYSQL, OTHER)[number % 2].port))
            time.sleep(PAUSE)

    def measure(self):
        wait_for(lambda: self.accounted() >= self.connections // 5 // BATCH * BATCH, "what was sent to be judged")
        self.before = self.least_used()
        self.report.note(f"after the first fifth: {self.before[0] >> 10} KiB, {self.before[1]} descriptors")

    def restart_journald(self):
        self.systemd.run("restart", JOURNALD)
        self.report.note("journald restarted")

    def lose_api(self):
        self.api.stop()
        self.wait_for_line("names from the Kubernetes API are not renewed")

    def regain_api(self):
        self.api.start()
        self.wait_for_line("names from the Kubernetes API are there again")

    def wait_for_line(self, text):
        wait_for(lambda: any(text in entry["MESSAGE"] for entry in self.systemd.entries()), text, 330)  # the longest backoff
        self.report.note(text)

    def flush_rules(self):
        with self.rules:
            self.cluster.node.run("nft", "flush", "ruleset")
        self.report.note("rules flushed")

    def pods_come_and_go(self):
        there = False
        while not self.over.wait(1):
            with self.rules:
                if there:
                    self.portmap.delete()
                else:
                    self.portmap.add()
            there = not there

    def run(self):
        pods = threading.Thread(target=self.pods_come_and_go)
        pods.start()
        try:
            self.send()
        finally:
            self.over.set()
            pods.join()
        self.report.note(f"{self.connections} connections made")
        problems = []
        try:
            wait_for(lambda: self.accounted() >= self.connections, "the last connections to be judged", 300)
        except RuntimeError as error:
            problems.append(str(error))
        metrics = self.metrics()
        counted = {name: int(value) for name, value in metrics.items()
                   if name.startswith(("hptrace_connections_total", "hptrace_lost_total")) and value}
        self.report.note(str(counted))
        if self.accounted() != self.connections:
            problems.append(f"{self.accounted()} of {self.connections} are accounted for")
        if not any('verdict="hijacked"' in name for name in counted) or not any('verdict="ok"' in name for name in counted):
            problems.append("not both verdicts: this proves nothing")
        self.report.check(["every connection is accounted for"], problems)
        after = self.least_used()
        self.report.note(f"at the end: {after[0] >> 10} KiB, {after[1]} descriptors; "
                         f"{int(self.systemd.show(UNIT, 'MemoryCurrent')) >> 20} MiB charged to the service")
        self.report.check(["memory is flat"], [] if after[0] - self.before[0] <= ALLOWED_GROWTH else [f"{self.before} {after}"])
        self.report.check(["no descriptor is lost"], [] if after[1] <= self.before[1] else [f"{self.before} {after}"])
        restarts = self.systemd.show(UNIT, "NRestarts")
        self.report.check(["never restarted"], [] if restarts == "0" else [restarts])
        told = self.systemd.entries("HPTRACE_VERDICT=hijacked", "HPTRACE_SERVICE=default/mysql-a")
        self.report.check(["the journal has it, with the API's name"], [] if told else ["no entry of a hijack"])
        self.systemd.run("stop", UNIT)
        self.api.stop()
        self.systemd.close()
        self.cluster.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--installed", required=True, help="where `cmake --install` put hptrace")
    parser.add_argument("--connections", type=int, default=500_000, help="(%(default)s)")
    options = parser.parse_args()
    private_mounts("/run/netns", "/var/lib/cni")
    report = Report(f"endurance on {os.uname().release}", (("WHAT", 40),))
    EnduranceTest(options, report).run()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
