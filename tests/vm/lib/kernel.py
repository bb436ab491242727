# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel under the tests offers."""

import os
import re

COMPLAINT = re.compile(r"WARNING: |BUG: |Oops|general protection fault|refcount_t: |kasan", re.IGNORECASE)
# A processor that does not get on is an emulated machine's lot, unless it was busy with what hptrace attached.
STALL = re.compile(r"soft lockup|rcu.*stall|rcu.*starved", re.IGNORECASE)
ATTACHED = re.compile(r"bpf_|kprobe|kretprobe|ftrace_|rethook")


class KernelLog:
    """What the kernel says from now on."""

    def __init__(self):
        try:
            self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:
            self._fd = -1  # not ours to read: no virtual machine

    def complaints(self):
        lines = self._lines()
        return [line for number, line in enumerate(lines)
                if (any(map(ATTACHED.search, lines[number:number + 60])) if STALL.search(line) else COMPLAINT.search(line))]

    def _lines(self):
        lines = []
        while self._fd >= 0:
            try:
                # "priority,sequence,time,flags;text", then lines of variables
                lines.append(os.read(self._fd, 8192).decode(errors="replace").partition(";")[2].split("\n")[0])
            except BrokenPipeError:
                continue  # the oldest were overwritten
            except OSError:
                break
        return lines


def has_modules():
    """Can this kernel load modules? One that cannot has all it will ever have from the start."""
    return os.path.exists("/proc/modules")


def probe_modes():
    """Values of --probe that work here. fexit needs the BTF of what it traces: of modules there is none before 5.11, of what
    is built in always. Loads nothing."""
    return ("fexit", "kprobe") if set(os.listdir("/sys/kernel/btf")) - {"vmlinux"} or not has_modules() else ("kprobe",)
