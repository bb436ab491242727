# SPDX-License-Identifier: GPL-2.0-or-later
"""Thousands of Services: what the node's state costs to write, to read and to keep."""

import json
import os
import shutil
import signal
import subprocess
import time

from lib.hptrace import Hptrace
from lib.netns import CommandFailed
from tier import dump, services
from tier.nodes import CACHE, Cluster, Intruder
from tier.proxy import Bridge, KubeProxy, iptables_path


class ManyRun:
    """kube-proxy in one mode with everything the apiserver holds; no traffic. numbers: what was measured."""

    def __init__(self, setting, mode):
        self.setting, self.mode = setting, mode
        self.name = f"many-{setting.version}-{mode}"
        self.folder = f"{setting.out}/{self.name}"
        self.problems, self.numbers = [], {"mode": mode, "kernel": os.uname().release}

    def run(self):
        os.makedirs(self.folder, exist_ok=True)
        cluster = Cluster(self.setting.node)
        bridge = Bridge(cluster.node, self.setting.apiserver)
        path = iptables_path("nft")
        proxy = KubeProxy(self.setting.kube_proxy, self.setting.version, cluster.node, self.mode, path,
                          f"/tmp/{self.name}")
        try:
            self.numbers["kube_proxy_seconds"] = round(proxy.start(limit=6000), 1)
            Intruder(cluster, path).start()
            begin = time.monotonic()
            dump.take(cluster.node, f"{self.folder}/dump", CACHE, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
            self.numbers["dump_seconds"] = round(time.monotonic() - begin, 1)
            self.numbers["dump_bytes"] = sum(os.path.getsize(f"{top}/{name}") for top, _, names
                                             in os.walk(f"{self.folder}/dump") for name in names)
            if self.setting.hptrace:
                self._measure(cluster.node)
            subprocess.run(["tar", "-cJf", f"{self.folder}.tar.xz", "-C", self.folder, "dump"], check=True)
            shutil.rmtree(f"{self.folder}/dump")
            with open(f"{self.folder}/numbers.json", "w", encoding="ascii") as file:
                json.dump(self.numbers, file, indent=1)
                file.write("\n")
        except (RuntimeError, CommandFailed, OSError, subprocess.CalledProcessError) as error:
            self.problems.append(str(error))
        finally:
            proxy.kill()
            bridge.close()
            cluster.close()

    def summary(self):
        return [str(self.numbers)]

    def _measure(self, node):
        """audit reads everything once and ends; trace keeps it: its memory is what it holds after that."""
        begin = time.monotonic()
        with node:
            audit = subprocess.Popen([self.setting.hptrace, "audit", "--json"], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(audit.pid, 0)
        audit.returncode = os.waitstatus_to_exitcode(status)
        self.numbers |= {"audit_seconds": round(time.monotonic() - begin, 2), "audit_cpu_seconds": usage.ru_utime + usage.ru_stime,
                         "audit_peak_kib": usage.ru_maxrss, "audit_status": audit.returncode}
        if audit.returncode not in (0, 3):
            self.problems.append(f"hptrace audit ended with status {audit.returncode}")
        if self.setting.kernel == "host":
            return  # whose kernel may not let it trace
        begin = time.monotonic()
        tracer = Hptrace(node, self.setting.hptrace, "--json", "--port", str(services.SERVICES[0].ports[0].port))
        if not tracer.wait_tracing():
            self.problems.append("hptrace did not reach `hptrace: tracing`\n" + tracer.transcript())
            return
        self.numbers["trace_ready_seconds"] = round(time.monotonic() - begin, 2)
        with open(f"/proc/{tracer.pid}/status", encoding="ascii") as file:
            status = dict(line.split(":", 1) for line in file)
        self.numbers["trace_rss_kib"] = int(status["VmRSS"].split()[0])
        self.numbers["trace_peak_kib"] = int(status["VmHWM"].split()[0])
        tracer.stop(signal.SIGINT)
