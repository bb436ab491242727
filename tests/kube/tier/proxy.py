# SPDX-License-Identifier: GPL-2.0-or-later
"""kube-proxy on the node under test, and its way to the apiserver."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

from tier import services
from tier.control_plane import TOKEN
from tier.versions import VERSIONS


class Bridge:
    """Listens on the node's loopback and passes connections on to the apiserver from this process's own namespace.

    The node needs no interface, route or rule for it, so the dumps hold nothing that a node would not have.
    """

    port = 6443

    def __init__(self, namespace, target):
        self._target = target
        with namespace:
            self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def iptables_path(backend):
    """A PATH in which iptables is of this back end ("nft" or "legacy"), as update-alternatives would have it."""
    folder = tempfile.mkdtemp(prefix=f"iptables-{backend}-")
    for command in ("iptables", "ip6tables"):
        for suffix in ("", "-save", "-restore"):
            os.symlink(f"/usr/sbin/{command}-{backend}{suffix}", f"{folder}/{command}{suffix}")
    return f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin"


class KubeProxy:
    """The real program of a version; start() returns once everything it knows of is on the node."""

    def __init__(self, program, version, namespace, mode, path, folder):
        self._program, self._namespace, self._mode, self._path, self._folder = program, namespace, mode, path, folder
        self._process, self._log = None, None
        self.command = [program, f"--config={folder}/kube-proxy.json", "-v=2"]
        kubeconfig = f"{folder}/kubeconfig"
        own = VERSIONS[version]
        self._families = own.families
        self.configuration = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": mode,
            "hostnameOverride": "node", "clusterCIDR": ",".join(services.POD_CIDR[family] for family in own.families),
            "clientConnection": {"kubeconfig": kubeconfig},
            # Only the first network namespace has these sysctls.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}}
        if own.families == (6,):  # it goes by the node's own address
            self.configuration |= {"bindAddress": services.NODE[6], "metricsBindAddress": "127.0.0.1:10249"}
        if own.feature_gates:
            self.configuration["featureGates"] = dict(own.feature_gates)
        os.makedirs(folder, exist_ok=True)
        with open(kubeconfig, "w", encoding="ascii") as file:
            json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "test",
                       "clusters": [{"name": "test", "cluster": {"server": f"https://127.0.0.1:{Bridge.port}",
                                                                 "insecure-skip-tls-verify": True}}],
                       "users": [{"name": "test", "user": {"token": TOKEN}}],
                       "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}]}, file)
        with open(f"{folder}/kube-proxy.json", "w", encoding="ascii") as file:
            json.dump(self.configuration, file, indent=1)

    def start(self, limit=900):
        """Returns the seconds it took. (In ipvs mode it runs ipset for each entry: minutes on a busy emulated machine.)"""
        begin = time.monotonic()
        self._log = open(f"{self._folder}/kube-proxy.log", "a", encoding="utf-8")
        with self._namespace:
            self._process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self._log,
                                             stderr=self._log, env={"PATH": self._path})
        while not self._synced():
            if self._process.poll() is not None:
                raise RuntimeError(f"kube-proxy ended with status {self._process.returncode}:\n{self.log()}")
            elapsed = time.monotonic() - begin
            if elapsed > limit:
                raise RuntimeError(f"kube-proxy has not synced after {limit} s:\n{self.log()}")
            time.sleep(max(0.5, elapsed / 100))  # asking takes it time
        return time.monotonic() - begin

    def stop(self):
        """Its rules stay, as they do when a real one is replaced."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        self._log.close()

    def kill(self):
        """Whatever has happened: no process stays."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def restart(self):
        self.stop()
        return self.start()

    def log(self, lines=40):
        self._log.flush()
        with open(f"{self._folder}/kube-proxy.log", encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-lines:])

    def metrics(self):
        """Its own numbers, name with labels -> value; empty while it does not answer."""
        try:
            with self._namespace:
                connection = http.client.HTTPConnection("127.0.0.1", 10249, timeout=20)
                connection.connect()
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            connection.close()
        except (OSError, http.client.HTTPException):
            return {}
        return {name: float(value) for name, value in re.findall(r"^(kubeproxy_\S+) (\S+)$", text, re.MULTILINE)}

    def _synced(self):
        """All families have been written since the last change it heard of."""
        return self._says_synced() and (self._mode == "nftables" or all(map(self._has_rules, self._families)))

    def _has_rules(self, family):
        """Before 1.34 all families share their metrics, so that two rounds of one look like one of each."""
        command = "iptables" if family == 4 else "ip6tables"
        rules = self._namespace.run(f"{command}-save", "-t", "nat", env={"PATH": self._path})
        return re.search(r"^-A KUBE-SERVICES ", rules, re.MULTILINE)

    def _says_synced(self):
        values = self.metrics()
        prefix = "kubeproxy_sync_proxy_rules_"

        def all_of(name):
            return [value for key, value in values.items() if re.fullmatch(re.escape(prefix + name) + r"(\{.*\})?", key)]

        written, queued = all_of("last_timestamp_seconds"), all_of("last_queued_timestamp_seconds")
        labels = " ".join(key for key in values if key.startswith(prefix + "last_timestamp_seconds"))
        if "ip_family" in labels and not ("IPv4" in labels and "IPv6" in labels):
            return False  # the other family has not begun
        pending = all_of("service_changes_pending") + all_of("endpoint_changes_pending")
        return (bool(written) and min(written) > 0 and sum(all_of("duration_seconds_count")) >= len(self._families)
                and not any(pending) and max(queued, default=0) <= max(written))
