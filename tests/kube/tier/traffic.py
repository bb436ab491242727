# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections to everything at once, and who answered each."""

import errno
import selectors
import socket
import time
from dataclasses import dataclass

from tier import services
from tier.nodes import IPPROTO_SCTP, sctp_works
from tier.versions import minor

CLIENTS = ("pod", "node", "outside")
NOBODY = "(no answer)"


@dataclass
class Attempt:
    """One connection. service: None for a plain hostPort."""

    client: str
    protocol: str
    kind: str
    family: int
    address: str
    port: int
    service: object = None
    target: int = 0
    answer: str = NOBODY
    local: tuple = ("", 0)

    @property
    def name(self):
        return " ".join((self.service.name if self.service else "-", self.kind, self.client, self.protocol,
                         f"[{self.address}]:{self.port}" if self.family == 6 else f"{self.address}:{self.port}"))

    def by(self):
        """Who answered: "service" (an endpoint of it), "hostport", "nobody", or "other"."""
        if self.answer.startswith("intruder:"):
            return "hostport"
        if self.answer.startswith("("):
            return "nobody"
        if self.service is services.KUBERNETES:
            return "service" if self.answer == f"apiserver:{self.target}" else "other"
        if self.service and self.answer in {f"{pod}:{self.target}" for pod in self.service.endpoints}:
            return "service"
        return "other"


def everything(families=services.FAMILIES):
    """Every Service by each of its addresses, and a hostPort used as intended, from every kind of client.

    families: those kube-proxy serves."""
    sctp = sctp_works()
    for service in (*services.SERVICES, services.KUBERNETES):
        for kind, family, address, port, number in service.destinations():
            if family not in families or port.protocol == "sctp" and not sctp:
                continue
            for client in CLIENTS:
                yield Attempt(client, port.protocol, kind, family, address, number, service, port.target)
    for family in services.FAMILIES:
        for protocol in ("tcp", "udp"):
            for client in CLIENTS:
                yield Attempt(client, protocol, "HostPort", family, services.NODE[family], services.HOSTPORT_ONLY)


def ask_all(cluster, attempts, silence=10):
    """Opens all connections and waits until all have an answer, or nothing has happened for `silence` seconds."""
    attempts = list(attempts)
    with selectors.DefaultSelector() as selector:
        for attempt in attempts:
            _open(cluster.client(attempt.client), attempt, selector)
        last = time.monotonic()
        while selector.get_map() and (left := last + silence - time.monotonic()) > 0:
            for key, events in selector.select(left):
                last = time.monotonic()
                _progress(key.fileobj, key.data, events, selector)
        for key in list(selector.get_map().values()):
            key.fileobj.close()
    return attempts


def _open(namespace, attempt, selector):
    family = socket.AF_INET6 if attempt.family == 6 else socket.AF_INET
    kind, protocol = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0),
                      "sctp": (socket.SOCK_STREAM, IPPROTO_SCTP)}[attempt.protocol]
    with namespace:
        client = socket.socket(family, kind, protocol)
    client.setblocking(False)
    # Bound first: the port is known also of who is refused at once. And SCTP gets one address only, see Servers.
    with namespace, socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((attempt.address, attempt.port))
            client.bind((probe.getsockname()[0], 0))
        except OSError as error:
            attempt.answer = _words(error)
            client.close()
            return
    attempt.local = client.getsockname()[:2]
    try:
        client.connect((attempt.address, attempt.port))
    except BlockingIOError:
        pass
    except OSError as error:
        attempt.answer = _words(error)
        client.close()
        return
    selector.register(client, selectors.EVENT_WRITE, attempt)


def _progress(client, attempt, events, selector):
    try:
        if events & selectors.EVENT_WRITE:
            if number := client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(number, "")
            client.send(b"who are you\n")
            selector.modify(client, selectors.EVENT_READ, attempt)
            return
        attempt.answer = client.recv(512).decode().strip() or "(closed)"
    except OSError as error:
        attempt.answer = _words(error)
    selector.unregister(client)
    client.close()


def _words(error):
    return f"({errno.errorcode.get(error.errno, error.errno)})"


def without_hostport(attempt, mode, version):
    """Who answers while no hostPort exists, as seen with every version and mode."""
    service, client = attempt.service, attempt.client
    if not service:
        return "nobody"
    external = attempt.kind != "ClusterIP"
    local = "local-1" in service.endpoints
    if service is not services.KUBERNETES and not service.endpoints:
        return "nobody"
    if minor(version) <= 20 and attempt.kind == "ExternalIP" and attempt.address not in services.SECOND_NODE_ADDRESS.values():
        # Only for who comes neither from this node nor, as br_netfilter shows, over a bridge; others are routed on.
        return "service" if client == "outside" else "nobody"
    # 1.21 needs a feature gate for it, 1.20 does not know it.
    if service.spec.get("internalTrafficPolicy") == "Local" and not local and minor(version) >= 22:
        return "nobody"
    if service.spec.get("externalTrafficPolicy") == "Local" and external and not local:
        # ipvs mode falls back to endpoints of other nodes, but does not masquerade: their answers take another way.
        # The node itself asks a balancer's address from that very address.
        lost = client == "outside" or (mode == "ipvs" and attempt.kind == "LoadBalancer" and client == "node")
        return "nobody" if lost else "service"
    if service.spec.get("loadBalancerSourceRanges") and attempt.kind == "LoadBalancer" and client != "pod":
        # Older ipvs mode lets the node itself through.
        return "service" if mode == "ipvs" and version == "1.28" and client == "node" else "nobody"
    return "service"
