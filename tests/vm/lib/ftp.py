# SPDX-License-Identifier: GPL-2.0-or-later
"""As much of FTP as makes the kernel's FTP helper expect a data connection."""

import re
import socket
import threading

TIMEOUT = 20  # seconds; an emulated machine under load is slow


class FtpServer:
    """Answers PASV, EPSV and PORT with a data connection over which it sends its name."""

    def __init__(self, namespace, name, port):
        self._namespace, self._name = namespace, name.encode() + b"\n"
        self._listeners = [self._listen(family, port) for family in (socket.AF_INET, socket.AF_INET6)]
        self.data_port = 0  # of the last data connection, at this end
        for listener in self._listeners:
            threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def close(self):
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _listen(self, family, port):
        with self._namespace:
            listener = socket.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(("", port))
        listener.listen()
        return listener

    def _serve(self, listener):
        while True:
            try:
                control, _ = listener.accept()
            except OSError:  # closed
                return
            with control:
                control.settimeout(TIMEOUT)
                control.sendall(b"220 ready\r\n")
                control.recv(512)  # the helper takes no command for one that does not follow another
                control.sendall(b"230 welcome\r\n")
                command = control.recv(512).decode().strip()
                with self._data(control, command) as data:
                    data.sendall(self._name)

    def _data(self, control, command):
        if command.startswith("PORT "):
            numbers = command.removeprefix("PORT ").split(",")
            with self._namespace:
                data = socket.socket(control.family, socket.SOCK_STREAM)
            data.settimeout(TIMEOUT)
            data.connect((".".join(numbers[:4]), int(numbers[4]) * 256 + int(numbers[5])))
            self.data_port = data.getsockname()[1]
            return data
        with self._listen(control.family, 0) as listener:
            listener.settimeout(TIMEOUT)
            self.data_port = port = listener.getsockname()[1]
            if command == "EPSV":
                control.sendall(f"229 Entering Extended Passive Mode (|||{port}|)\r\n".encode())
            else:
                address = control.getsockname()[0].replace(".", ",")
                control.sendall(f"227 Entering Passive Mode ({address},{port // 256},{port % 256})\r\n".encode())
            return listener.accept()[0]


class FtpClient:
    """One control connection and what comes of one command."""

    def __init__(self, namespace, address, port):
        self._namespace = namespace
        self._address = address
        with namespace:
            self._control = socket.create_connection((address, port), TIMEOUT)
        self.local = self._control.getsockname()[:2]
        self._control.recv(512)
        self._control.sendall(b"USER anybody\r\n")
        self._control.recv(512)

    def close(self):
        self._control.close()

    def passive(self):
        """(answer, local end, remote end) of a data connection to the server, as the server's reply arrives here."""
        if ":" in self._address:
            self._control.sendall(b"EPSV\r\n")
            port = int(re.search(r"\|\|\|(\d+)\|", self._control.recv(512).decode()).group(1))
            remote = (self._address, port)
        else:
            self._control.sendall(b"PASV\r\n")
            numbers = re.search(r"\((.*)\)", self._control.recv(512).decode()).group(1).split(",")
            remote = (".".join(numbers[:4]), int(numbers[4]) * 256 + int(numbers[5]))
        with self._namespace:
            data = socket.create_connection(remote, TIMEOUT)
        with data:
            return data.recv(512).decode().strip(), data.getsockname()[:2], remote

    def active(self):
        """(answer, local end, remote end) of a data connection from the server, IPv4."""
        with self._namespace:
            listener = socket.create_server((self.local[0], 0))
        with listener:
            listener.settimeout(TIMEOUT)
            local = listener.getsockname()
            numbers = [*local[0].split("."), str(local[1] // 256), str(local[1] % 256)]
            self._control.sendall(f"PORT {','.join(numbers)}\r\n".encode())
            data, remote = listener.accept()
        with data:
            return data.recv(512).decode().strip(), local, remote
