# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a kernel function take long: a kprobe with a BPF program that divides. Interrupts come through meanwhile, and with
them packets."""

import ctypes
import fcntl
import os
import struct

from lib.bpf_syscall import LIBC, bpf, unlimited_memory

SYS_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}[os.uname().machine]
BPF_PROG_LOAD, BPF_PROG_TYPE_KPROBE = 5, 2
PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_SET_BPF = 0x2400, 0x40042408
PERF_FLAG_FD_CLOEXEC = 8
PERF_ATTR_BYTES, CONFIG1 = 112, 56  # struct perf_event_attr: its size, and where the function's name goes
ROUNDS, DIVISIONS = 100, 300  # a verifier follows each; Linux 6.12's takes minutes for many rounds


def _checked(result, what):
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _program():
    """r0 = 0, r1 = ROUNDS; do { r0 /= 3, DIVISIONS times; r1 -= 1 } while (r1 != 0); return r0"""
    instructions = b"".join(struct.pack("<BBhi", *instruction) for instruction in (
        (0xb7, 0, 0, 0), (0xb7, 1, 0, ROUNDS), *[(0x37, 0, 0, 3)] * DIVISIONS, (0x07, 1, 0, -1),
        (0x55, 1, -DIVISIONS - 2, 0), (0x95, 0, 0, 0)))
    code, license_ = ctypes.create_string_buffer(instructions), ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack("<IIQQ", BPF_PROG_TYPE_KPROBE, len(instructions) // 8, ctypes.addressof(code),
                             ctypes.addressof(license_)).ljust(48, b"\0")
    return _checked(bpf(BPF_PROG_LOAD, attributes, len(attributes)), "BPF_PROG_LOAD")


class SlowFunction:
    """Until closed, on all processors."""

    def __init__(self, function):
        self._function = function
        self._descriptors = []

    def __enter__(self):
        unlimited_memory()
        with open("/sys/bus/event_source/devices/kprobe/type", encoding="ascii") as file:
            kind = int(file.read())
        name = ctypes.create_string_buffer(self._function.encode())
        attributes = bytearray(PERF_ATTR_BYTES)
        struct.pack_into("<II", attributes, 0, kind, PERF_ATTR_BYTES)
        struct.pack_into("<Q", attributes, CONFIG1, ctypes.addressof(name))
        event = _checked(LIBC.syscall(SYS_PERF_EVENT_OPEN, bytes(attributes), -1, 0, -1, PERF_FLAG_FD_CLOEXEC),
                         f"perf_event_open({self._function})")
        self._descriptors.append(event)
        self._descriptors.append(_program())
        fcntl.ioctl(event, PERF_EVENT_IOC_SET_BPF, self._descriptors[1])
        fcntl.ioctl(event, PERF_EVENT_IOC_ENABLE, 0)
        return self

    def __exit__(self, *_):
        for descriptor in self._descriptors:
            os.close(descriptor)
