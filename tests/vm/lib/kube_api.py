# SPDX-License-Identifier: GPL-2.0-or-later
"""A stand-in for the Kubernetes API in a node's namespace (tests/unit/names/kube_server) that can go and come back."""

import json
import os
import subprocess
import sys

from lib.hptrace import wait_until

SERVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "unit", "names", "kube_server")


class KubeApi:
    """services: those it lists, of namespace default. kubeconfig: the file that leads to it."""

    def __init__(self, node, folder, services):
        self._node, self._folder, self._port = node, folder, "0"
        self._server = None
        os.makedirs(folder)
        self._write("services.json", [
            {"metadata": {"namespace": "default", "name": service.name},
             "spec": {"clusterIPs": list(service.address.values()),
                      "ports": [{"port": service.port, "protocol": protocol.upper()} for protocol in service.protocols]}}
            for service in services])
        self.start()
        with open(f"{folder}/port", encoding="ascii") as file:
            self._port = file.read()
        self.kubeconfig = f"{folder}/kubeconfig"
        self._write("kubeconfig", {  # JSON is YAML
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {"server": f"https://127.0.0.1:{self._port}",
                                                      "certificate-authority": f"{folder}/ca.pem"}}],
            "users": [{"name": "test", "user": {"token": "secret"}}]})

    def start(self):
        port = f"{self._folder}/port"
        if os.path.exists(port):
            os.unlink(port)
        with self._node:
            self._server = subprocess.Popen([sys.executable, SERVER, self._folder, self._port])
        if not wait_until(lambda: os.path.exists(port)):
            raise RuntimeError("the API does not start")

    def stop(self):
        self._server.kill()
        self._server.wait()

    def _write(self, name, content):
        with open(f"{self._folder}/{name}", "w", encoding="utf-8") as file:
            json.dump(content, file)
