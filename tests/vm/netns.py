#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes that are network namespaces: hptrace --netns all, PID and PATH.

Two nodes have the same addresses. On the first one a hostPort takes the Service over; on the second one, which is a
process with files of its own as kind's nodes are, the Service wins. A third namespace is gone before hptrace looks. In a
fourth one rules and Services change all the time, which is none of the first one's business."""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import hptrace  # noqa: E402
from lib.background import Repeated  # noqa: E402
from lib.changes import change_all, rewrite_table  # noqa: E402
from lib.footprint import changes_since, footprint  # noqa: E402
from lib.incident import MYSQL, ROWS, Incident  # noqa: E402
from lib.netns import Namespace, private_mounts, private_network  # noqa: E402
from lib.report import Report  # noqa: E402
from lib.servers import ask_once  # noqa: E402

PREFIX = "k-"
PORTS = "3306,30306"
METRICS = "127.0.0.1:9753"
TO_SERVICE = [(protocol, MYSQL.address[family], MYSQL.port) for family in (4, 6) for protocol in ("tcp", "udp")]
TO_NODE_PORT = [("tcp", "192.168.0.2", MYSQL.node_port)]


def ask(client, destinations):
    """[(connection key as hptrace.connection_key has it, who answered)]"""
    answers = []
    for protocol, address, port in destinations:
        answer, local = ask_once(client, protocol, address, port)
        answers.append([[protocol, local[0], local[1], address, port], answer])
    return answers


class Kind:
    """The second node, seen from outside: asks its client to ask."""

    def __init__(self):
        self._process = subprocess.Popen([sys.executable, __file__, "--kind"], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        self.inode = json.loads(self._process.stdout.readline())

    def ask(self, destinations):
        self._process.stdin.write(json.dumps(destinations) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait()

    @staticmethod
    def run():
        """In the process that is the node: its network and its /var/lib/cni are its own."""
        private_mounts("/var/lib/cni", "/run/netns")
        private_network()
        node = Namespace.adopt("kind")
        incident = Incident(next(row for row in ROWS if row.name == "same-table"), "nft", node, prefix=PREFIX)
        print(node.inode(), flush=True)
        for line in sys.stdin:
            print(json.dumps(ask(incident.cluster.client, json.loads(line))), flush=True)
        incident.close()


class Gone:
    """A namespace with a DNAT rule of its own, made and taken away. A cable to the caller's namespace tells when the
    kernel has taken it down: not as long as anything of it is kept open."""

    def __init__(self, name):
        self._namespace = Namespace.create(name)
        self.inode = self._namespace.inode()
        self._cable = f"to-{name}"
        subprocess.run(["ip", "link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", name], check=True)
        self._namespace.ip("link set lo up\n")
        self._namespace.run("nft", "table ip other { chain output { type nat hook output priority -100; "
                                   "ip daddr 127.0.0.2 udp dport 3306 dnat to 127.0.0.1:3306; }; }")

    def connect(self):
        with self._namespace, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", ("127.0.0.2", 3306))

    def delete(self):
        """True if it is gone for good."""
        self._namespace.delete()
        return hptrace.wait_until(lambda: not os.path.exists(f"/sys/class/net/{self._cable}"))


class Test:
    def __init__(self, binary, report):
        self.binary = binary
        self.report = report
        self.home = Namespace.adopt("home")
        self.incident = Incident(next(row for row in ROWS if row.name == "other-backend"), "legacy")
        self.kind = Kind()
        self.node = self.incident.cluster.node

    def everywhere(self):
        """The same addresses in two namespaces do not mix, and connections from before count in each."""
        here, there = self.ask_both(TO_SERVICE[:1])
        program = hptrace.Hptrace(self.home, self.binary, "--netns", "all", "--port", PORTS, "--json")
        if not program.wait_tracing():
            program.stop()
            self.check("all", "traces", program, ["did not trace"])
            return
        self.wait_for(program, here + there)
        gone = Gone("quick")
        gone.connect()
        self.wait_for_netns(program, gone.inode)
        kept = [] if gone.delete() else ["hptrace keeps a namespace alive"]
        more_here, more_there = self.ask_both(TO_SERVICE + TO_NODE_PORT)
        program.status = program.stop()
        self.check("all", "lets namespaces go", program, kept)
        self.check("all", "the node's", program, self.wrong(program, self.node.inode(), here, more_here, "hijacked", ""))
        self.check("all", "the other node's", program, self.wrong(program, self.kind.inode, there, more_there, "ok", PREFIX))
        conflicts = {record["netns"] for record in program.records("conflict")}
        problems = [] if conflicts == {self.node.inode(), self.kind.inode} else [f"of {conflicts}"]
        self.check("all", "conflicts", program, problems)
        problems = [] if program.status == 3 else ["not 3"]
        problems += [f"{record['type']} claims a namespace" for kind in ("summary", "lost")
                     for record in program.records(kind) if "netns" in record]
        self.check("all", "exit status", program, problems)

    def text(self):
        self.ask_both(TO_SERVICE[1:2])
        before = footprint(self.node)
        program = hptrace.run(self.home, self.binary, "--netns", "all", "--port", PORTS, "--existing")
        problems = []
        for inode in (self.node.inode(), self.kind.inode):
            if not any(f"network namespace {inode}: kube-proxy ipvs; 3 Services" in line for line in program.stdout):
                problems.append(f"no line introduces {inode}")
            if not any(line.endswith(f"netns {inode}") for line in program.stdout):
                problems.append(f"no connection is said to be in {inode}")
        if any("no Services" in line for line in program.stderr):
            problems.append("it misses Services where it was not told to look for them")
        self.check("all", "as text", program, problems + changes_since(before, self.node))

    def ask_both(self, destinations):
        return ask(self.incident.cluster.client, destinations), self.kind.ask(destinations)

    @staticmethod
    def wait_for(program, answers):
        wanted = {tuple(key) for key, _ in answers}
        hptrace.wait_until(lambda: wanted <= {hptrace.connection_key(record) for record in program.records("connection")})

    @staticmethod
    def wait_for_netns(program, inode):
        hptrace.wait_until(lambda: any(record["netns"] == inode for record in program.records("connection")))

    @staticmethod
    def wrong(program, inode, existing, new, verdict, prefix):
        """What is wrong with the records of one node. verdict: of connections to the Service."""
        records = [record for record in program.records("connection") if record["netns"] == inode]
        problems = []
        for key, answer, before in [(*item, True) for item in existing] + [(*item, False) for item in new]:
            found = [record for record in records if list(hptrace.connection_key(record)) == key]
            if len(found) != 1:
                problems.append(f"{key}: {len(found)} records")
                continue
            record = found[0]
            node_port = key[4] == MYSQL.node_port
            wanted = {"hijacked": f"{prefix}mysql-b", "ok": f"{prefix}mysql-a"}[verdict]
            if answer != (f"{prefix}mysql-c" if node_port else wanted):
                problems.append(f"{key}: answered by {answer}: the test proves nothing")
            said = (record["verdict"], record["existing"], record["client"].get("pod", {}).get("name"))
            if said != ("hijacked" if node_port else verdict, before, f"{prefix}app-1"):
                problems.append(f"{key}: {said}")
            pod = record["rewritten"].get("pod", {}).get("name")
            if pod != {"mysql-c": f"{prefix}mysql-c-0", "mysql-b": f"{prefix}mysql-b-0"}.get(answer.removeprefix(prefix)):
                problems.append(f"{key}: went to the pod {pod}")
        return problems

    def vanished(self):
        """Its connections are judged unknown, and it counts as unread."""
        program = hptrace.Hptrace(self.home, self.binary, "--netns", "all", "--port", "3306", "--proto", "udp",
                                  "--dest", "127.0.0.0/8", "--json")
        problems = [] if program.wait_tracing() else ["did not trace"]
        gone = Gone("vanishes")
        os.kill(program.pid, signal.SIGSTOP)
        gone.connect()
        if not gone.delete():
            problems.append("the namespace stays")
        os.kill(program.pid, signal.SIGCONT)
        self.wait_for_netns(program, gone.inode)
        program.status = program.stop()
        verdicts = [record["verdict"] for record in program.records("connection")]
        if verdicts != ["unknown"]:
            problems.append(f"verdicts {verdicts}")
        summary = (program.records("summary") or [{}])[0]
        if not any("namespace" in source for source in summary.get("unread_sources", [])):
            problems.append("the summary does not count it")
        if program.status != 4:
            problems.append("exit status not 4")
        self.check("all", "vanished", program, problems)

    def ends(self):
        """Conflicts end with their namespace, though nobody reads it any more, and nothing is unread by that."""
        program = hptrace.Hptrace(self.home, self.binary, "--netns", "all", "--port", PORTS, "--json")
        problems = [] if program.wait_tracing() else ["did not trace"]
        self.kind.ask(TO_NODE_PORT[:1])

        def of_kind(record_type):
            return sorted(record["conflict_id"] for record in program.records(record_type)
                          if record["netns"] == self.kind.inode)
        if not hptrace.wait_until(lambda: of_kind("conflict")):
            problems.append("no conflict there")
        self.kind.close()
        if not hptrace.wait_until(lambda: of_kind("conflict_ended") == of_kind("conflict")):
            problems.append(f"ended: {of_kind('conflict_ended')}, of {of_kind('conflict')}")
        program.status = program.stop()
        if program.records("summary")[0].get("unread_sources"):
            problems.append(f"unread: {program.records('summary')}")
        self.check("all", "conflicts end", program, problems)

    def one(self):
        """--netns with a process's number takes that node's own files, too."""
        pid = str(self.kind.pid)
        program = hptrace.Hptrace(self.home, self.binary, "--netns", pid, "--port", PORTS, "--json")
        problems = [] if program.wait_tracing() else ["did not trace"]
        _, there = self.ask_both(TO_NODE_PORT)
        program.status = program.stop()
        problems += self.wrong(program, self.kind.inode, [], there, "ok", PREFIX)
        if {record["netns"] for record in program.records("connection")} != {self.kind.inode}:
            problems.append("it shows another namespace's connections")
        self.check("PID", "trace", program, problems)
        program = hptrace.run(self.home, self.binary, "audit", "--netns", pid, "--json")
        pods = {record["rule"].get("pod", {}).get("name") for record in program.records("conflict")}
        self.check("PID", "audit", program, [] if pods == {f"{PREFIX}mysql-b-0", f"{PREFIX}mysql-c-0"} else [f"pods {pods}"])
        program = hptrace.run(self.home, self.binary, "audit", "--netns", self.node.path, "--json")
        pods = {record["rule"].get("pod", {}).get("name") for record in program.records("conflict")}
        self.check("PATH", "audit", program, [] if pods == {"mysql-b-0", "mysql-c-0"} else [f"pods {pods}"])

    def changes_elsewhere(self, *arguments):
        """They cost no reading here, and do not keep conflicts from being told. Those made from elsewhere do count."""
        program = hptrace.Hptrace(self.home, self.binary, "--netns", self.node.path, "--port", PORTS, "--json",
                                  "--metrics", METRICS, *arguments)
        problems = [] if program.wait_tracing() else ["did not trace"]
        other = Namespace.create("churning")
        change_all(other)  # a table that a module makes when it is loaded (Linux up to 5.14) counts for all
        before = self.reads()
        while (now := self.reads(after=1)) != before:
            before = now
        churn = Repeated(lambda: change_all(other))
        hptrace.wait_until(lambda: len(churn.times) >= 4)
        rewrite_table(other, "filter")
        problems += [] if len(churn.times) >= 4 else [f"changed only {len(churn.times)} times"]
        problems += [] if (now := self.reads(after=1)) == before else [f"{now - before} reads for another's changes"]

        def of_kind(record_type):
            return sorted(record["conflict_id"] for record in program.records(record_type))
        told = of_kind("conflict")
        self.incident.delete_pods()
        if not told or not hptrace.wait_until(lambda: of_kind("conflict_ended") == told):
            problems.append(f"ended: {of_kind('conflict_ended')}, of {told}")
        self.incident.add_pods()
        if not hptrace.wait_until(lambda: of_kind("conflict") == sorted(2 * told)):
            problems.append(f"told: {of_kind('conflict')}, not {told} again")
        churn.close()
        other.delete()
        before = self.reads(after=2)
        rewrite_table(self.node, "nat")
        if not hptrace.wait_until(lambda: self.reads() > before, limit=30):
            problems.append("a table replaced from elsewhere was not read")
        program.status = program.stop()
        self.check("one", "changes elsewhere", program, problems)

    def reads(self, after=0):
        """How often hptrace has read the state, so many seconds from now."""
        time.sleep(after)
        with self.home, urllib.request.urlopen(f"http://{METRICS}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("hptrace_state_reads_total "))

    def pod(self):
        """A pod without the host network is not the node."""
        for command in (("--duration", "0.2"), ("--existing",), ("audit",)):
            program = hptrace.run(self.incident.cluster.client, self.binary, *command)
            problems = [] if program.status == 4 else ["exit status not 4"]
            if not any("no Services in this network namespace: not the node's?" in line for line in program.stderr):
                problems.append("it does not say that this is not the node's")
            self.check("a pod's", " ".join(command), program, problems)

    def check(self, netns, what, program, problems):
        self.report.check([netns, what, program.status], problems)
        if problems:
            self.report.transcript(program.transcript())

    def run(self):
        self.everywhere()
        self.text()
        self.vanished()
        self.one()
        self.pod()
        self.changes_elsewhere()
        self.changes_elsewhere("--probe", "kprobe")
        self.ends()
        self.incident.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hptrace", metavar="PROGRAM", help="the binary under test")
    parser.add_argument("--kind", action="store_true", help="be the second node")
    options = parser.parse_args()
    if options.kind:
        Kind.run()
        return 0
    private_mounts("/run/netns", "/var/lib/cni")
    report = Report(f"network namespaces, {os.uname().release}", (("NETNS", 8), ("CHECK", 18), ("EXIT", 4)))
    Test(options.hptrace, report).run()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
