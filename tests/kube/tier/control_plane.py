# SPDX-License-Identifier: GPL-2.0-or-later
"""etcd and kube-apiserver on this machine's loopback, and a client for the API."""

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tier import services

TOKEN = "hptrace-test-tier"  # guards nothing: the apiserver listens on loopback and lives as long as a test


SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


class ApiError(Exception):
    """The API refused something; the text holds the request, the status and its words."""


class Api:
    """JSON over HTTPS; one connection per thread."""

    def __init__(self, port=services.API_PORT, host="127.0.0.1"):
        self._host, self._port = host, port
        self._context = ssl._create_unverified_context()  # its certificate is signed by itself
        self._local = threading.local()

    def call(self, method, path, body=None, kind="application/json"):
        for attempt in (1, 2):
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = http.client.HTTPSConnection(
                    self._host, self._port, context=self._context, timeout=60)
            try:
                connection.request(method, path, json.dumps(body) if body is not None else None,
                                   {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind})
                response = connection.getresponse()
                text = response.read().decode()
                break
            except (http.client.HTTPException, OSError):
                self._local.connection = None  # a kept connection that the server has closed
                if attempt == 2:
                    raise
        if response.status >= 300:
            raise ApiError(f"{method} {path}: {response.status} {text.strip()}")
        return json.loads(text) if text.startswith("{") else text

    def create(self, service):
        path = "/api/v1/namespaces/default/services"
        self.call("POST", path, services.service_object(service))
        if service.balancer:
            self.call("PATCH", f"{path}/{service.name}/status", {"status": services.balancer_status(service)},
                      "application/merge-patch+json")
        for piece in services.endpoint_slices(service):
            self.call("POST", SLICES, piece)

    def create_endpoints(self, some, family):
        """For a kube-proxy that does not read the slices create() makes."""
        for service in some:
            self.call("POST", "/api/v1/namespaces/default/endpoints", services.endpoints_object(service, family))

    def create_nodes(self):
        for name, addresses in (("node", services.NODE), ("node-1", services.NODE_1)):
            node = services.node_object(name, addresses)
            self.call("POST", "/api/v1/nodes", node)
            self.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": node["status"]},
                      "application/merge-patch+json")

    @contextlib.contextmanager
    def large_cluster(self):
        """As long as it is open there are so many endpoints (none of them ready) that kube-proxy saves comments."""
        made = []
        try:
            for piece in services.unready_slices():
                self.call("POST", SLICES, piece)
                made.append(piece["metadata"]["name"])
            yield
        finally:
            for name in made:
                self.call("DELETE", f"{SLICES}/{name}")

    def create_many(self, some):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.create, some))


class ControlPlane:
    """Runs both programs from start() to close(). etcd, kubernetes: the folders built by tests/kube/build.
    authorization: the apiserver's mode; the Api may do everything in any."""

    etcd_port, peer_port = 12379, 12380

    def __init__(self, etcd, kubernetes, folder, authorization="AlwaysAllow"):
        self._etcd, self._kubernetes, self._folder = etcd, kubernetes, folder
        self._authorization = authorization
        self._running = []

    def start(self, limit=120):
        """Returns the Api once it is ready; raises RuntimeError with the end of the log otherwise."""
        for port in (self.etcd_port, self.peer_port, services.API_PORT):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise RuntimeError(f"port {port} of the loopback address is taken: {error}") from error
        os.makedirs(self._folder, exist_ok=True)
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.peer_port}"
        self._run("etcd", f"{self._etcd}/etcd", "--name=etcd", f"--data-dir={self._folder}/etcd",
                  "--unsafe-no-fsync", f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
                  f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
                  f"--initial-cluster=etcd={peer}")
        with open(f"{self._folder}/tokens", "w", encoding="ascii") as file:
            file.write(f"{TOKEN},test,test,system:masters\n")
        key = f"{self._folder}/service-account.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, stderr=subprocess.DEVNULL)
        self._run("kube-apiserver", f"{self._kubernetes}/kube-apiserver", f"--etcd-servers={client}",
                  "--bind-address=127.0.0.1", f"--secure-port={services.API_PORT}",
                  f"--advertise-address={services.NODE_1[4]}", f"--cert-dir={self._folder}/certificates",
                  f"--token-auth-file={self._folder}/tokens", f"--authorization-mode={self._authorization}",
                  f"--service-cluster-ip-range={','.join(services.SERVICE_CIDR.values())}",
                  "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}",
                  f"--service-account-signing-key-file={key}")
        api, end = Api(), time.monotonic() + limit
        while True:
            try:
                api.call("GET", "/readyz")
                api.call("GET", "/api/v1/namespaces/default/services/kubernetes")
                return api
            except (OSError, ApiError, http.client.HTTPException) as error:
                for name, process, _ in self._running:
                    if process.poll() is not None:
                        raise RuntimeError(f"{name} ended with status {process.returncode}:\n{self.log(name)}") from error
                if time.monotonic() > end:
                    raise RuntimeError(f"not ready after {limit} s ({error}):\n{self.log('kube-apiserver')}") from error
                time.sleep(0.3)

    def log(self, name, lines=30):
        with open(f"{self._folder}/{name}.log", encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-lines:])

    def close(self):
        for _, process, log in reversed(self._running):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()
        self._running = []

    def _run(self, name, *command):
        log = open(f"{self._folder}/{name}.log", "w", encoding="utf-8")
        self._running.append((name, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log), log))
