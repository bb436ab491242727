# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers that answer with their own name, over TCP, UDP and (where the kernel has it) SCTP, IPv4 and IPv6."""

import selectors
import socket
import threading

# family-independent arguments of socket()
KINDS = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0), "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP)}


class NameServers:
    """Every server of the cluster in one thread. A server listens from the moment add() returns."""

    def __init__(self):
        self._selector = selectors.DefaultSelector()
        self._wake, wake = socket.socketpair()
        self._selector.register(wake, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def add(self, namespace, name, port, protocols=("tcp", "udp")):
        """Serves `name` on this port of every address of the namespace. SCTP: its module must be loaded."""
        for family in (socket.AF_INET, socket.AF_INET6):
            for kind, number in map(KINDS.get, protocols):
                with namespace:
                    listener = socket.socket(family, kind, number)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind(("", port))
                if kind == socket.SOCK_STREAM:
                    listener.listen(64)
                handler = self._accept if kind == socket.SOCK_STREAM else self._answer_datagram
                self._selector.register(listener, selectors.EVENT_READ, (handler, name.encode() + b"\n"))

    def close(self):
        self._wake.close()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def _serve(self):
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                handler, name = key.data
                handler(key.fileobj, name)

    def _accept(self, listener, name):
        connection, _ = listener.accept()
        self._selector.register(connection, selectors.EVENT_READ, (self._answer_stream, name))

    def _answer_stream(self, connection, name):
        try:
            if connection.recv(512):
                connection.sendall(name)
                return
        except OSError:
            pass
        self._selector.unregister(connection)
        connection.close()

    @staticmethod
    def _answer_datagram(listener, name):
        try:
            _, sender = listener.recvfrom(512)
            listener.sendto(name, sender)
        except OSError:  # an ICMP error about an earlier answer
            pass


class Client:
    """One connection from a namespace; stays open until closed."""

    timeout = 20  # seconds; an emulated machine under load is slow, and a silent drop is a failure anyway

    def __init__(self, namespace, protocol, address, port):
        self.protocol = protocol
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with namespace:
            self._socket = socket.socket(family, *KINDS[protocol])
        self._socket.settimeout(self.timeout)
        self.local = ("", 0)
        self.remote = (address, port)
        self._error = None
        try:
            self._socket.connect((address, port))
            self.local = self._socket.getsockname()[:2]
        except OSError as error:
            self._error = error

    def ask(self):
        """The name of the server that answers, or what went wrong in brackets."""
        if self._error:
            return f"({self._error})"
        try:
            self._socket.send(b"who are you\n")
            return self._socket.recv(512).decode().strip() or "(closed)"
        except OSError as error:
            return f"({error})"

    def close(self):
        self._socket.close()


def ask_once(namespace, protocol, address, port):
    """Opens a connection, asks, closes. Returns (answer, local address and port)."""
    client = Client(namespace, protocol, address, port)
    answer = client.ask()
    client.close()
    return answer, client.local
