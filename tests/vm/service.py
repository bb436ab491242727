#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hptrace as a service of a real systemd, reporting to a real journald: for weeks, quiet until something is wrong."""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import hptrace  # noqa: E402
from lib.cluster import MYSQL_B, Cluster  # noqa: E402
from lib.incident import MYSQL, OTHER  # noqa: E402
from lib.kubeproxy import KubeProxy  # noqa: E402
from lib.netns import private_mounts  # noqa: E402
from lib.portmap import Pod, Portmap  # noqa: E402
from lib.report import Report  # noqa: E402
from lib.servers import ask_once  # noqa: E402
from lib.systemd import Installed, Systemd, outer_pid, wait_for  # noqa: E402

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
UNIT = "hptrace.service"
WARNING, NOTICE, INFO = "4", "5", "6"
REPEAT = 4  # seconds
JOURNALD = ("systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald.service")


def message_ids():
    """As the program has them: name -> id."""
    with open(f"{REPOSITORY}/userspace/output/journal.hpp", encoding="ascii") as file:
        return dict(re.findall(r'char\* (\w+) = "([0-9a-f]{32})";', file.read()))


class ServiceTest:
    def __init__(self, options, report):
        self.promtool, self.report, self.ids = options.promtool, report, message_ids()
        self.cluster = Cluster()
        KubeProxy(self.cluster.node, "legacy", (MYSQL, OTHER)).start_kube_proxy()
        self.portmap = Portmap(self.cluster.node, "nft", Pod(self.cluster.mysql_b, "mysql-b-0", MYSQL_B), [(3306, 3306, "tcp")])
        installed = Installed(options.installed)
        self.binary = installed.program
        # All of the unit is as it is delivered but for this: where it runs, and how patient it is.
        drop_in = ("[Service]\nExecStart=\n"
                   f"ExecStart={self.binary} --journald --repeat {REPEAT}\n"
                   f"NetworkNamespacePath={self.cluster.node.path}\nWatchdogSec=20\nRestartSec=1\nTimeoutStartSec=300\n")
        self.systemd = Systemd({UNIT: installed.unit, f"{UNIT}.d/test.conf": drop_in})
        report.note("cluster and systemd are there")

    def entries(self, kind, *matches):
        return self.systemd.entries(f"MESSAGE_ID={self.ids[kind]}", *matches)

    def connect(self, count=1):
        """Through the Service; returns who answered."""
        return {ask_once(self.cluster.client, "tcp", MYSQL.address[4], MYSQL.port)[0] for _ in range(count)}

    def check(self, what, problems):
        self.report.check([what], problems)
        if problems:
            self.report.transcript("\n".join([self.systemd.log(), *(f"{entry.get('PRIORITY')} {entry.get('MESSAGE')}"
                                                                     for entry in self.systemd.entries()[-30:])]))

    @staticmethod
    def differences(entry, **wanted):
        return [f"{name} is {entry.get(name)}, not {value}" for name, value in wanted.items() if entry.get(name) != value]

    def waits(self, what, condition, limit=60):
        try:
            return wait_for(condition, what, limit), []
        except RuntimeError as error:
            return None, [str(error)]

    # --- steps, in this order -------------------------------------------------------------------------------------

    def starts(self):
        self.systemd.run("start", UNIT)  # returns once it has said READY=1
        found, problems = self.waits("the entry of the start", lambda: self.entries("started"))
        if found:
            problems += self.differences(found[0], PRIORITY=INFO)
            problems += [] if "kube-proxy ipvs; 5 Services and 0 HostPorts" in found[0]["MESSAGE"] else [found[0]["MESSAGE"]]
        if self.connect() != {"mysql-a"}:
            problems.append("the Service is not answered by mysql-a")
        others = [entry for entry in self.systemd.entries() if entry.get("MESSAGE_ID") not in (None, self.ids["started"])]
        problems += [f"it is not quiet: {entry['MESSAGE']}" for entry in others]
        self.check("starts, and is quiet", problems)

    def conflict_appears(self):
        self.portmap.add()
        found, problems = self.waits("the conflict's entry", lambda: self.entries("conflict"))
        if found:
            problems += self.differences(found[0], PRIORITY=WARNING, HPTRACE_WINNER="hostport",
                                         HPTRACE_REASON_CODE="other_backend", HPTRACE_POD="default/mysql-b-0",
                                         HPTRACE_ORIGINAL_IP=MYSQL.address[4], HPTRACE_ORIGINAL_PORT="3306",
                                         HPTRACE_REWRITTEN_IP=MYSQL_B[4], HPTRACE_REWRITTEN_PORT="3306",
                                         HPTRACE_SERVICE_KIND="ClusterIP")
            problems += [] if "HPTRACE_REPORTED_BEFORE" not in found[0] else ["it says it was reported before"]
            problems += [] if "hptrace: " not in found[0]["MESSAGE"] else ["the message repeats the program's name"]
        self.check("conflict, before any connection", problems)

    def hijack(self):
        """The first at once, then one entry with a count."""
        answered = self.connect()
        found, problems = self.waits("the first hijack", lambda: self.entries("hijacked"))
        answered |= self.connect(7)
        both, more = self.waits("the repeats", lambda: len(self.entries("hijacked")) > 1 and self.entries("hijacked"))
        problems += more
        if found and both:
            conflict = self.entries("conflict")[0]
            for entry in both:
                problems += self.differences(entry, HPTRACE_VERDICT="hijacked", HPTRACE_POD="default/mysql-b-0",
                                             HPTRACE_CONFLICT_ID=conflict["HPTRACE_CONFLICT_ID"],
                                             HPTRACE_RULE_CHAIN=conflict["HPTRACE_RULE_CHAIN"],
                                             HPTRACE_ORIGINAL_IP=MYSQL.address[4], HPTRACE_ORIGINAL_PORT="3306",
                                             HPTRACE_REWRITTEN_IP=MYSQL_B[4], HPTRACE_CLIENT_IP="10.224.0.223")
            problems += self.differences(both[0], PRIORITY=WARNING, HPTRACE_COUNT="1")
            problems += [f"a repeat has priority {entry['PRIORITY']}" for entry in both[1:] if entry["PRIORITY"] != NOTICE]
            self.waits("all repeats", lambda: self.told() == 8)
            if self.told() != 8:
                problems.append(f"the entries tell of {self.told()} of 8 connections")
            if len(self.entries("hijacked")) > 4:
                problems.append(f"{len(self.entries('hijacked'))} entries for 8 connections")
            if not self.systemd.entries("HPTRACE_VERDICT=hijacked", "HPTRACE_POD=default/mysql-b-0"):
                problems.append("not found by its fields")
        if answered != {"mysql-b"}:
            problems.append(f"{answered} answered")
        explained = self.systemd.explained(f"MESSAGE_ID={self.ids['hijacked']}")
        problems += [] if "What to do: remove hostPort 3306" in explained else [f"journalctl -x explains nothing: {explained}"]
        self.check("hijack: at once, then a count", problems)

    def told(self):
        return sum(int(entry["HPTRACE_COUNT"]) for entry in self.entries("hijacked"))

    def restart(self):
        warned, conflicts = len(self.systemd.entries(f"PRIORITY={WARNING}")), len(self.entries("conflict"))
        before = len(self.entries("hijacked"))
        self.systemd.run("restart", UNIT)
        found, problems = self.waits("the conflict's entry", lambda: self.entries("conflict")[conflicts:])
        self.connect()
        again, more = self.waits("the hijack", lambda: self.entries("hijacked")[before:])
        problems += more
        for entry in [*(found or []), *(again or [])[:1]]:
            problems += self.differences(entry, PRIORITY=NOTICE, HPTRACE_REPORTED_BEFORE="1")
        if len(self.systemd.entries(f"PRIORITY={WARNING}")) != warned:
            problems.append("it alarms again")
        stopped = self.entries("stopped")
        problems += self.differences(stopped[-1], PRIORITY=INFO) if stopped else ["no entry of the stop"]
        self.check("restart: marked, no alarm", problems)

    def stalled_journald(self):
        """Stopped, not gone: its socket fills up. Tracing goes on, and its watchdog is kept content."""
        pid = int(self.systemd.show("systemd-journald.service", "MainPID"))
        before = self.told()
        journald = outer_pid("systemd-journal")
        os.kill(journald, signal.SIGSTOP)
        try:
            self.connect(5)
            with self.cluster.node:
                table = hptrace.run(self.cluster.node, self.binary, "--journald", "--json", "--existing", "--port", "3306")
        finally:
            os.kill(journald, signal.SIGCONT)
        found, problems = self.waits("what was said meanwhile", lambda: self.told() >= before + 5)
        problems += [] if pid and table.status == 3 else [f"exit status {table.status}: {table.stderr}"]
        self.check("journald does not read", problems)

    def absent_journald(self):
        """Its sockets are gone as well. What happens meanwhile is kept and comes later."""
        before, ended = self.told(), len(self.entries("conflict_ended"))
        self.systemd.run("stop", *JOURNALD)
        os.unlink("/run/systemd/journal/socket")
        self.connect(3)
        self.portmap.delete()
        # Without a journal there is nothing to look at but whether it is alive.
        problems = [] if self.systemd.show(UNIT, "ActiveState") == "active" else ["it is not active"]
        self.systemd.run("start", *JOURNALD)
        found, more = self.waits("the end of the conflict", lambda: self.entries("conflict_ended")[ended:])
        problems += more
        _, more = self.waits("the connections", lambda: self.told() >= before + 3)
        problems += more
        if found:
            problems += self.differences(found[0], PRIORITY=NOTICE, HPTRACE_POD="default/mysql-b-0")
        self.check("no journald; end of the conflict", problems)

    def accepted(self):
        """--ignore."""
        conflicts = len(self.entries("conflict"))
        self.portmap.add()
        found, problems = self.waits("the conflict's entry", lambda: self.entries("conflict")[conflicts:])
        if found and found[-1]["PRIORITY"] != WARNING:
            problems.append("a conflict that had ended is not alarmed of when it comes again")
        with open("/run/accepted", "w", encoding="ascii") as file:
            file.write("# known\nport=3306 pod=default/mysql-b-*  # until it moves\n")
        # The command begins once all connections that exist already were judged, and its end is the trace's.
        tracer = hptrace.Hptrace(self.cluster.node, self.binary, "--json", "--port", "3306", "--ignore", "/run/accepted",
                                 "--", "sh", "-c", "touch /run/begun; until [ -e /run/enough ]; do sleep 0.1; done")
        if tracer.wait_tracing() and hptrace.wait_until(lambda: os.path.exists("/run/begun")):
            self.connect(2)
        with open("/run/enough", "w", encoding="ascii"):
            pass
        status = tracer.wait(hptrace.Hptrace.stop_limit)
        summary = (tracer.records("summary") or [{}])[-1]
        shown = tracer.records("conflict") + [one for one in tracer.records("connection") if one["verdict"] != "ok"]
        if status != 0 or summary.get("suppressed", 0) < 2 or shown:
            problems.append(f"exit status {status}\n{tracer.transcript()}")
        self.check("accepted conflicts", problems)

    def metrics(self):
        """What Prometheus scrapes; requests that are none do no harm."""
        tracer = hptrace.Hptrace(self.cluster.node, self.binary, "--json", "--only", "hostport", "--metrics", "127.0.0.1:9755")
        problems = [] if tracer.wait_tracing() else ["not tracing"]
        self.connect(2)
        counted = re.compile(r'^hptrace_connections_total{protocol="tcp",verdict="hijacked"} [1-9]', re.MULTILINE)
        wait_for(lambda: counted.search(self.scrape(b"GET /metrics HTTP/1.0\r\n\r\n")), "the metrics")
        for request in (b"\0\xff" * 400, b"GET / HTTP/9.9\r\n\r\n", b"POST /metrics HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b""):
            self.scrape(request)
        alive = self.scrape(b"GET /healthz HTTP/1.0\r\n\r\n")
        problems += [] if " 200 " in alive.partition("\r\n")[0] else [f"/healthz: {alive}"]
        answer = self.scrape(b"GET /metrics HTTP/1.0\r\n\r\n").partition("\r\n\r\n")[2]
        for line in ('hptrace_conflict{owner="default/mysql-b-0",service="10.96.0.10:3306/tcp",winner="hostport"} 1',
                     'hptrace_lost_total{where="ring_buffer"} 0', "hptrace_unread_sources 0", "hptrace_tracing 1"):
            problems += [] if line in answer.splitlines() else [f"no line {line}"]
        checked = subprocess.run([self.promtool, "check", "metrics"], input=answer, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True, check=False)
        problems += [f"promtool: {checked.stdout}"] if checked.returncode or checked.stdout else []
        if (status := tracer.stop()) != 3:
            problems.append(f"exit status {status}")
        if problems:
            self.report.transcript(answer + tracer.transcript())
        self.check("metrics", problems)

    def scrape(self, request):
        with self.cluster.node, socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(20)
            client.connect(("127.0.0.1", 9755))
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while part := client.recv(65536):
                    answer += part
            except OSError:
                pass
            return answer.decode(errors="replace")

    def watchdog(self):
        """A process that hangs is started again."""
        restarts = self.systemd.show(UNIT, "NRestarts")
        problems = [] if restarts == "0" else [f"it was started again {restarts} times before"]
        os.kill(outer_pid("hptrace"), signal.SIGSTOP)
        _, more = self.waits("the restart", lambda: self.systemd.show(UNIT, "NRestarts") != restarts
                                 and self.systemd.show(UNIT, "ActiveState") == "active", 120)
        self.check("watchdog", problems + more)

    def stops(self):
        memory = int(self.systemd.show(UNIT, "MemoryCurrent"))
        self.systemd.run("stop", UNIT)
        result = self.systemd.show(UNIT, "Result")
        problems = [] if result == "success" else [f"the service's result is {result}"]
        entry = self.entries("stopped")[-1]
        problems += [] if "exit status" in entry["MESSAGE"] else [entry["MESSAGE"]]
        self.report.note(f"memory of the service: {memory >> 20} MiB")
        self.check("stops", problems)

    def run(self):
        for step in (self.starts, self.conflict_appears, self.hijack, self.restart, self.stalled_journald,
                     self.absent_journald, self.accepted, self.metrics, self.watchdog, self.stops):
            try:
                step()
            except (RuntimeError, OSError, IndexError) as error:
                self.check(step.__name__, [f"{type(error).__name__}: {error}"])
            if self.report.failures:
                break  # the next ones build on it
        self.systemd.close()
        self.cluster.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--installed", required=True, help="where `cmake --install` put hptrace")
    parser.add_argument("--promtool", required=True, help="Prometheus' checker")
    options = parser.parse_args()
    private_mounts("/run/netns", "/var/lib/cni")
    report = Report(f"hptrace as a service on {os.uname().release}", (("WHAT", 40),))
    ServiceTest(options, report).run()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
