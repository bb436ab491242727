# SPDX-License-Identifier: GPL-2.0-or-later
"""A real systemd with a real journald, in a process namespace of its own, with no other units than those asked for."""

import json
import os
import shutil
import subprocess

from lib.hptrace import wait_until

SYSTEM_UNITS = "/usr/lib/systemd/system"
OWN_UNITS = "/run/units"
JOURNAL_UNITS = ("systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald.service")
BASIC_TARGETS = ("sysinit.target", "basic.target", "sockets.target", "shutdown.target", "umount.target", "final.target",
                 "emergency.target", "test.target")
LIMIT = 120  # seconds


class Installed:
    """hptrace as `cmake --install` left it in a folder, put where the unit expects it, which is the guest's own: ProtectHome=
    and PrivateTmp= hide a build folder below /home, /root or /tmp from a service."""

    prefix = "/usr"
    program = f"{prefix}/sbin/hptrace"

    def __init__(self, folder):
        catalogs = "lib/systemd/catalog"
        subprocess.run(["mount", "-t", "tmpfs", "none", f"{self.prefix}/{catalogs}"], check=True)  # no others than hptrace's
        shutil.copy(f"{folder}/{catalogs}/hptrace.catalog", f"{self.prefix}/{catalogs}")
        shutil.copy(f"{folder}/sbin/hptrace", self.program)
        with open(f"{folder}/lib/systemd/system/hptrace.service", encoding="ascii") as file:
            self.unit = file.read()


class Systemd:
    """units: name -> text."""

    def __init__(self, units):
        for folder in (OWN_UNITS, "/run/systemd/journald.conf.d", "/run/log/journal"):
            os.makedirs(folder, exist_ok=True)
        for name in JOURNAL_UNITS:
            shutil.copy(f"{SYSTEM_UNITS}/{name}", OWN_UNITS)
        for name, text in ({name: f"[Unit]\nDescription={name}\nDefaultDependencies=no\n" for name in BASIC_TARGETS} | units
                           | {"../systemd/journald.conf.d/test.conf": "[Journal]\nStorage=volatile\nRateLimitBurst=0\n"}).items():
            os.makedirs(os.path.dirname(f"{OWN_UNITS}/{name}"), exist_ok=True)
            with open(f"{OWN_UNITS}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
        subprocess.run(["mount", "-t", "tmpfs", "none", "/var/lib/systemd"], check=True)
        os.makedirs("/var/lib/systemd/catalog")
        subprocess.run(["journalctl", "--update-catalog"], check=True)
        if not os.path.exists("/sys/fs/cgroup/cgroup.procs"):
            subprocess.run(["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"], check=True)
        self._process = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "/lib/systemd/systemd", "--system",
             "--unit=test.target", "--log-target=kmsg", "--show-status=false"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "container": "test", "SYSTEMD_UNIT_PATH": OWN_UNITS})
        wait_for(lambda: os.path.exists("/run/systemd/private"), "systemd to start")
        wait_for(lambda: self.run("is-active", "test.target", check=False) == "active", "systemd to start")
        self.run("start", *JOURNAL_UNITS)

    def run(self, *arguments, check=True):
        """systemctl's answer."""
        # systemd answers nobody whose process it cannot see.
        done = subprocess.run(["nsenter", "--target", str(self._pid()), "--pid", "--mount", "--", "systemctl", "--no-pager",
                               *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"systemctl {' '.join(arguments)}: {done.stdout}\n{self.log()}")
        return done.stdout.strip()

    def _pid(self):
        """systemd's, in this process's own namespace."""
        with open(f"/proc/{self._process.pid}/task/{self._process.pid}/children", encoding="ascii") as file:
            return int(file.read().split()[0])

    def show(self, unit, name):
        return self.run("show", unit, "--property", name, "--value")

    def entries(self, *matches):
        """The journal's entries with these fields, oldest first."""
        done = subprocess.run(["journalctl", "--directory=/run/log/journal", "-o", "json", "--all", "SYSLOG_IDENTIFIER=hptrace",
                               *matches], stdout=subprocess.PIPE, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    @staticmethod
    def explained(*matches):
        """What journalctl -x prints of them."""
        return subprocess.run(["journalctl", "--directory=/run/log/journal", "-x", "--no-pager", *matches],
                              stdout=subprocess.PIPE, text=True, check=True).stdout

    @staticmethod
    def log():
        """What systemd said of late."""
        lines = subprocess.run(["dmesg"], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
        return "\n".join([line for line in lines if "systemd" in line][-30:])

    def close(self):
        self._process.kill()
        self._process.wait()


def outer_pid(name):
    """Of a process in systemd's process namespace, by its name."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                if file.read().strip() == name:
                    return int(pid)
        except OSError:
            pass
    raise RuntimeError(f"no process {name}")


def wait_for(condition, what, limit=LIMIT):
    """Its value, once it is true."""
    if value := wait_until(condition, limit):
        return value
    raise RuntimeError(f"waited {limit} s for {what}")
