#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The container of deploy/kubernetes, run by a real OCI runtime with what its manifest gives it: it sees the incident, and
no capability it has is one too many. The program is the static one, alone in the image."""

import argparse
import os
import signal
import socket
import sys

import yaml

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import hptrace  # noqa: E402
from lib.container import bundle  # noqa: E402
from lib.incident import MYSQL, ROWS, Incident  # noqa: E402
from lib.kernel import probe_modes  # noqa: E402
from lib.netns import private_mounts  # noqa: E402
from lib.report import Report  # noqa: E402
from lib.servers import ask_once  # noqa: E402

MANIFEST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../deploy/kubernetes/base/daemonset.yaml")
NODE_ADDRESS = "127.0.0.1"


class ContainerTest:
    def __init__(self, binary, report):
        self.binary, self.report = binary, report
        with open(MANIFEST, encoding="utf-8") as file:
            pod = yaml.safe_load(file)["spec"]["template"]["spec"]
        self.container = pod["containers"][0]
        self.context = self.container["securityContext"]
        self.capabilities = self.context["capabilities"]["add"]
        if "fexit" not in probe_modes():
            self.capabilities = [*self.capabilities, "SYS_RESOURCE"]  # before Linux 5.11, as docs/deploy.md says
        sources = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"]}
        self.mounts = [{**mount, "source": sources[mount["name"]]} for mount in self.container["volumeMounts"]]
        self.incident = Incident(next(row for row in ROWS if row.name == "other-backend"), "nft")
        self.number = 0

    def start(self, arguments, capabilities):
        self.number += 1
        command = bundle(f"/run/bundle-{self.number}", self.binary, arguments, self.context, capabilities, self.mounts)
        return hptrace.Hptrace(self.incident.cluster.node, *command)

    def trace(self):
        """As the manifest says."""
        arguments = [argument.replace("$(NODE_IP)", NODE_ADDRESS) for argument in self.container["args"]]
        program = self.start(arguments, self.capabilities)
        problems = [] if program.wait_tracing() else ["does not trace"]
        if not problems and not hptrace.wait_until(self.is_alive):
            problems.append("its liveness probe fails")
        client = self.incident.cluster.client
        answer, local = ask_once(client, "tcp", MYSQL.address[4], MYSQL.port) if not problems else ("", ("", 0))
        if not problems and answer != "mysql-b":
            problems.append(f"answered by {answer}: this proves nothing")
        key = ("tcp", local[0], local[1], MYSQL.address[4], MYSQL.port)
        if not problems:
            hptrace.wait_until(lambda: key in program.connections())
        # In a process namespace of its own it is its first process, which only the signals it handles reach.
        status = program.stop(signal.SIGTERM)
        records = program.connections().get(key, [])
        found = [(record["verdict"], record.get("client", {}).get("pod", {}).get("name"),
                  record.get("rule", {}).get("pod", {}).get("name")) for record in records]
        if found != [("hijacked", "app-1", "mysql-b-0")]:
            problems.append(f"shown: {found}")
        if status != 3:
            problems.append(f"exit status {status}")
        best = probe_modes()[0]
        if not any(f"tracing ({best})" in line for line in program.stderr):
            problems.append(f"not by {best}")
        problems += [str(record) for record in program.records("unread")]
        summary = (program.records("summary") or [{}])[-1]
        if summary.get("unread_sources"):
            problems.append(f"unread: {summary['unread_sources']}")
        self.check(["manifest", " ".join(self.capabilities)], problems, program)

    def is_alive(self):
        """As kubelet asks."""
        probe = self.container["livenessProbe"]["httpGet"]
        port = next(port["containerPort"] for port in self.container["ports"] if port["name"] == probe["port"])
        with self.incident.cluster.node, socket.create_connection((NODE_ADDRESS, port), 20) as client:
            client.sendall(f"GET {probe['path']} HTTP/1.1\r\nHost: node\r\n\r\n".encode())
            return b" 200 " in client.recv(100).partition(b"\r\n")[0]

    def refused(self, capability):
        """Without it: says so, or says what it could not read."""
        capabilities = [name for name in self.capabilities if name != capability]
        program = self.start(["trace", "--json", "--host-root=/host", "--duration=1"], capabilities)
        status = program.wait(hptrace.Hptrace.start_limit)
        problems = [] if status in (1, 4) else [f"exit status {status}: it is one too many"]
        self.check([f"without {capability}", " ".join(capabilities)], problems, program)
        self.report.note(next((line for line in reversed(program.stderr) if "hptrace:" in line), "")[:200])

    def run(self):
        self.trace()
        for capability in self.capabilities:
            self.refused(capability)
        self.incident.close()

    def check(self, cells, problems, program):
        self.report.check(cells, problems)
        if problems:
            self.report.transcript(program.transcript())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hptrace", required=True, help="the static binary under test")
    options = parser.parse_args()
    private_mounts("/run/netns", "/var/lib/cni")
    report = Report(f"the container of deploy/kubernetes, {os.uname().release}", (("WHAT", 22), ("CAPABILITIES", 34)))
    ContainerTest(options.hptrace, report).run()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
