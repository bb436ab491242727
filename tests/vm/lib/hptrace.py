# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the hptrace under test and collects what it says."""

import json
import signal
import subprocess
import threading
import time


class Hptrace:
    """A running `hptrace`. Records and messages are collected by threads, so it never waits for its reader."""

    start_limit = 180  # seconds until it must have attached; an emulated machine takes about ten
    stop_limit = 60

    def __init__(self, namespace, binary, *arguments):
        self.command = [binary, *arguments]
        with namespace:
            self._process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                             stderr=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        self.stdout, self.stderr = [], []
        self._arrived = []  # when each line of stdout did (time.monotonic)
        self._tracing = False
        self._answered = threading.Event()  # it traces, or it ended
        self._threads = [threading.Thread(target=self._collect, args=arguments, daemon=True)
                         for arguments in ((self._process.stdout, self.stdout), (self._process.stderr, self.stderr))]
        for thread in self._threads:
            thread.start()

    def wait_tracing(self):
        """True once every probe is attached; False if it ended, or took too long, before that."""
        return self._answered.wait(self.start_limit) and self._tracing

    def stop(self, signal_number=signal.SIGINT):
        if self._process.poll() is None:
            self._process.send_signal(signal_number)
        return self.wait(self.stop_limit)

    def wait(self, limit):
        """The exit status; a program that does not end in time is killed and reported as status None."""
        try:
            status = self._process.wait(limit)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            status = None
        for thread in self._threads:
            thread.join()
        return status

    def records(self, kind):
        """The JSON lines of this type."""
        return list(self.each(kind))

    def each(self, kind):
        """The same one by one, where they would not fit into memory."""
        return (record for record in map(_parse, self.stdout) if record.get("type") == kind)

    def arrivals(self, kind):
        """The JSON lines of this type, each with the time.monotonic() at which it arrived."""
        return [(record, when) for record, when in zip(map(_parse, self.stdout), self._arrived)
                if record.get("type") == kind]

    def connections(self):
        """The records of connections, by connection_key()."""
        found = {}
        for record in self.records("connection"):
            found.setdefault(connection_key(record), []).append(record)
        return found

    def losses(self):
        """What it counted as lost, by place."""
        lost = {}
        for record in self.records("lost"):
            lost[record["where"]] = lost.get(record["where"], 0) + record["count"]
        return lost

    def transcript(self):
        return "\n".join(["$ " + " ".join(self.command), *self.stdout, *("2> " + line for line in self.stderr)])

    def _collect(self, stream, lines):
        for line in stream:
            lines.append(line.rstrip("\n"))
            if lines is self.stdout:
                self._arrived.append(time.monotonic())
            if lines is self.stderr and line.startswith("hptrace: tracing"):
                self._tracing = True
                self._answered.set()
        if lines is self.stderr:
            self._answered.set()


def run(namespace, binary, *arguments, limit=Hptrace.start_limit):
    """Runs hptrace to its end. Returns it with its exit status in `status`."""
    program = Hptrace(namespace, binary, *arguments)
    program.status = program.wait(limit)
    return program


def wait_until(condition, limit=180):
    """Waits so many seconds at most. Returns what the condition was at the end."""
    deadline = time.monotonic() + limit
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return met


def connection_key(record):
    """Of a connection's record: protocol, client, original destination."""
    client, original = record.get("client", {}), record.get("original", {})
    return (record.get("protocol"), client.get("ip"), client.get("port"), original.get("ip"), original.get("port"))


def _parse(line):
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return {"type": "not JSON", "line": line}
