# SPDX-License-Identifier: GPL-2.0-or-later
"""What is tried in every mode of kube-proxy: when and through what the hostPorts come."""

import contextlib
import json
import os
import platform
import time
from dataclasses import asdict, dataclass

from lib.netns import CommandFailed
from tier import dump, kubelet, services, traffic
from tier.control_plane import Api, ApiError
from tier.nodes import CACHE, Cluster, Intruder, Node
from tier.proxy import Bridge, KubeProxy, iptables_path
from tier.verdicts import Watch
from tier.versions import VERSIONS, minor

PHASES = ("without", "hostport", "restarted")  # the dump is taken after "hostport"


@dataclass
class Case:
    """first: who comes first, "kube-proxy" or "portmap". iptables: back end of each one's iptables commands.
    backend: portmap's own setting. plugins: version of scripts/cni-plugins; empty: the newest, of tests/kube/build.
    modes: of kube-proxy, in which it is tried; empty: all. large: so many endpoints that iptables mode saves comments."""

    name: str
    first: str = "kube-proxy"
    kube_proxy_iptables: str = "nft"
    portmap_iptables: str = "nft"
    portmap_backend: str = "iptables"
    plugins: str = ""
    modes: tuple = ()
    large: bool = False


CASES = (Case("after"),
         Case("before", first="portmap"),
         Case("other-backend", portmap_iptables="legacy"),
         Case("legacy", kube_proxy_iptables="legacy", portmap_iptables="legacy"),
         Case("portmap-nftables", portmap_backend="nftables"),
         Case("large-cluster", modes=("iptables",), large=True),
         # Where most is hijacked.
         Case("plugins-0.9", portmap_iptables="legacy", plugins="0.9", modes=("ipvs",)),
         Case("plugins-1.1", portmap_iptables="legacy", plugins="1.1", modes=("ipvs",)))


@dataclass
class Setting:
    """Where the programs and the apiserver are, and where results go."""

    cache: str  # what tests/kube/build and scripts/cni-plugins prepared
    version: str
    apiserver: tuple
    out: str
    kernel: str  # as given to tests/kube/run
    hptrace: str = ""

    @property
    def kube_proxy(self):
        return f"{self.cache}/kube/kube-{self.version}/kube-proxy"

    @property
    def libcni(self):
        """The program that calls the plugins as a runtime does."""
        return f"{self.cache}/kube/cni/sandbox"

    def node(self, namespace, portmap="iptables", plugins=""):
        """portmap, plugins: of the node under test, see Case; the other one has the newest."""
        if not plugins or namespace.name != "node":
            return Node(namespace, self.libcni, f"{self.cache}/kube/cni", portmap)
        return Node(namespace, self.libcni, f"{self.cache}/cni/{plugins}/usr/lib/cni", portmap,
                    cni_version="0.4.0" if plugins == "0.9" else "1.0.0")

    def version_of(self, folder):
        with open(f"{self.cache}/{folder}/version", encoding="ascii") as file:
            return file.read().strip()


class CaseRun:
    """One case in one mode, in fresh namespaces. problems: what must not be."""

    def __init__(self, setting, mode, case):
        self.setting, self.mode, self.case = setting, mode, case
        self.name = f"kube-{setting.version}-{mode}-{case.name}"
        self.folder = f"{setting.out}/{self.name}"
        self.problems = []
        self.seconds = {}
        self._rows = {}  # (service, kind, protocol, address, port) -> client -> answers by phase
        self._phases = []

    def run(self):
        host, port = self.setting.apiserver
        try:
            with Api(port, host).large_cluster() if self.case.large else contextlib.nullcontext():
                self._run()
        except (ApiError, OSError) as error:
            self.problems.append(str(error))

    def _run(self):
        os.makedirs(self.folder, exist_ok=True)
        cluster = Cluster(lambda namespace: self.setting.node(namespace, self.case.portmap_backend, self.case.plugins))
        bridge = Bridge(cluster.node, self.setting.apiserver)
        path = iptables_path(self.case.kube_proxy_iptables)
        proxy = KubeProxy(self.setting.kube_proxy, self.setting.version, cluster.node, self.mode, path, f"/tmp/{self.name}")
        intruder = Intruder(cluster, iptables_path(self.case.portmap_iptables))
        try:
            if minor(self.setting.version) <= 24:
                kubelet.write_rules(cluster.node, path)
            if self.case.first == "portmap":
                intruder.start()
                self._timed("kube-proxy", proxy.start)
            else:
                self._timed("kube-proxy", proxy.start)
                self._ask("without", cluster)
                self._timed("portmap", intruder.start)
            self._ask("hostport", cluster)
            self._timed("dump", lambda: dump.take(cluster.node, self.folder, CACHE, _now()))
            self._timed("restart", proxy.restart)
            self._ask("restarted", cluster)
            intruder.stop()
            proxy.stop()
            self._write(proxy)
        except (RuntimeError, CommandFailed, OSError) as error:
            self.problems.append(str(error))
        finally:
            proxy.kill()
            bridge.close()
            cluster.close()

    def _timed(self, what, action):
        begin = time.monotonic()
        action()
        self._took(what, begin)

    def _took(self, what, begin):
        self.seconds[what] = round(time.monotonic() - begin, 1)
        print(f"# {self.name}: {what} {self.seconds[what]} s", flush=True)

    def _ask(self, phase, cluster):
        begin = time.monotonic()
        with Watch(self.setting.hptrace, cluster.node) as watch:
            attempts = traffic.ask_all(cluster, traffic.everything(VERSIONS[self.setting.version].families))
        self.problems += [f"{phase}: {problem}" for problem in watch.disagreements(attempts)]
        self._took(phase, begin)
        self._phases.append(phase)
        for attempt in attempts:
            self._check(phase, attempt)
            row = self._rows.setdefault((attempt.service.name if attempt.service else "", attempt.kind,
                                         attempt.protocol, attempt.address, attempt.port), {})
            row.setdefault(attempt.client, []).append(attempt.by())

    def _check(self, phase, attempt):
        if attempt.by() == "other":
            self.problems.append(f"{phase}: {attempt.name}: {attempt.answer}")
        elif phase == "without" and (wanted := traffic.without_hostport(attempt, self.mode, self.setting.version)) != attempt.by():
            self.problems.append(f"{phase}: {attempt.name}: {attempt.by()} {attempt.answer}, not {wanted}")

    def summary(self):
        """How many connections each answered."""
        for number, phase in enumerate(self._phases):
            found = [answers[number] for row in self._rows.values() for answers in row.values()]
            yield f"{phase:10} {({who: found.count(who) for who in sorted(set(found))})}"

    def _write(self, proxy):
        version = VERSIONS[self.setting.version]
        provenance = {
            "kubernetes": self.setting.version_of(f"kube/kube-{self.setting.version}"),
            "apiserver": self.setting.version_of(f"kube/kube-{version.apiserver or self.setting.version}"),
            "etcd": self.setting.version_of("kube/etcd"),
            "cni_plugins": self.setting.version_of(f"cni/{self.case.plugins}" if self.case.plugins else "kube/cni"),
            "kernel": platform.release(), "mode": self.mode, "case": asdict(self.case),
            "kube_proxy": {"families": version.families, "configuration": proxy.configuration},
            "command": f"tests/kube/run --version {self.setting.version} --kernel {self.setting.kernel}"
                       f" --case {self.case.name} --dumps {self.mode}",
            "cluster": "kube-cluster.json", "dumped_after": "hostport", "phases": self._phases}
        rows = [{"service": service, "kind": kind, "protocol": protocol, "ip": address, "port": port, "answered": row}
                for (service, kind, protocol, address, port), row in self._rows.items()]
        with open(f"{self.folder}/provenance.json", "w", encoding="utf-8") as file:
            file.write(json.dumps(provenance, indent=1).removesuffix("\n}"))
            file.write(',\n "traffic": [\n  ' + ",\n  ".join(map(json.dumps, rows)) + "\n ]\n}\n")


def cluster_description():
    """Pods and Services of all dumps: what "service" in an answer stands for."""
    pods = {pod: [services.pod_address(pod, family) for family in services.FAMILIES]
            for pods in services.PODS.values() for pod in pods}
    return {"nodes": {"node": list(services.NODE.values()), "node-1": list(services.NODE_1.values())}, "pods": pods,
            "hostport_pod": "intruder", "services": [
                {"name": service.name, "object": services.service_object(service)["spec"], "endpoints": service.endpoints,
                 "load_balancer": list(service.balancer.values())} for service in services.SERVICES]}


def _now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
