# SPDX-License-Identifier: GPL-2.0-or-later
"""Network namespaces: sockets and commands inside any of them from one process.

A socket belongs to the namespace its creating thread was in, for ever, so clients and servers of the whole cluster live
in the test process: no helper processes to start, wait for or lose.
"""

import ctypes
import os
import socket
import subprocess
import threading

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWNET = 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


class CommandFailed(Exception):
    """A command of the test set-up failed; the text holds the command and what it said."""


def _check(result):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def private_mounts(*directories):
    """Gives this process its own mount namespace with an empty tmpfs on each directory: the machine keeps its own files."""
    _check(_libc.unshare(CLONE_NEWNS))
    _check(_libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None))
    for directory in directories:
        os.makedirs(directory, exist_ok=True)
        _check(_libc.mount(b"tmpfs", directory.encode(), b"tmpfs", ctypes.c_ulong(0), b"mode=0755"))


def private_hostname(name):
    """The node's name, for this process and those it starts."""
    _check(_libc.unshare(CLONE_NEWUTS))
    socket.sethostname(name)


def private_network():
    """Moves this process into a network namespace of its own."""
    _check(_libc.unshare(CLONE_NEWNET))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class Namespace:
    """A network namespace; `with namespace:` puts the calling thread into it."""

    def __init__(self, name):
        self.name = name
        self.path = f"/run/netns/{name}"
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._local = threading.local()
        for interfaces in ("all", "default"):  # IPv6 addresses are usable at once
            self.sysctl(f"net/ipv6/conf/{interfaces}/accept_dad", 0)

    @classmethod
    def create(cls, name):
        subprocess.run(["ip", "netns", "add", name], check=True)
        return cls(name)

    @classmethod
    def adopt(cls, name):
        """The namespace this process is in, under a name."""
        subprocess.run(["ip", "netns", "attach", name, str(os.getpid())], check=True)
        return cls(name)

    def inode(self):
        return os.fstat(self._fd).st_ino

    def delete(self):
        os.close(self._fd)
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def __enter__(self):
        back = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._local.stack = getattr(self._local, "stack", []) + [back]
        _check(_libc.setns(self._fd, CLONE_NEWNET))
        return self

    def __exit__(self, *_):
        back = self._local.stack.pop()
        _check(_libc.setns(back, CLONE_NEWNET))
        os.close(back)

    def run(self, *command, stdin=None, env=None):
        """Runs a command in the namespace and returns its standard output; raises CommandFailed."""
        with self:
            done = subprocess.run(command, input=stdin, env=env, text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise CommandFailed(f"{' '.join(command)}: status {done.returncode}\n{done.stderr}{done.stdout}"
                                + (f"\n--- its input:\n{stdin}" if stdin else ""))
        return done.stdout

    def ip(self, batch):
        """Runs the lines of an `ip -batch` script."""
        return self.run("ip", "-batch", "-", stdin=batch)

    def sysctl(self, key, value):
        # /proc/sys/net shows the namespace of the thread that opens the file.
        with self, open(f"/proc/sys/{key}", "w", encoding="ascii") as file:
            file.write(f"{value}\n")
