# SPDX-License-Identifier: GPL-2.0-or-later
"""bpf(2), for the few tests that need it themselves."""

import ctypes
import os
import resource

SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
LIBC = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes, size):
    """What the system call returns; errno is ctypes.get_errno()'s."""
    return LIBC.syscall(SYS_BPF, command, attributes, size)


def unlimited_memory():
    """Before Linux 5.11 maps and programs count as locked memory."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
