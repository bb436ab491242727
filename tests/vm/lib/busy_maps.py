# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps every processor inside BPF map operations, during which the kernel runs no kprobe program (bpf_prog_active)."""

import ctypes
import multiprocessing
import os

SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
BPF_MAP_CREATE, BPF_MAP_UPDATE_BATCH, BPF_MAP_LOOKUP_BATCH = 0, 26, 24
BPF_MAP_TYPE_HASH = 1
ENTRIES = 50_000

_libc = ctypes.CDLL(None, use_errno=True)


class _Create(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("type", "key_size", "value_size", "max_entries", "flags")]


class _Batch(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("in_batch", "out_batch", "keys", "values")] + [
        ("count", ctypes.c_uint32), ("map_fd", ctypes.c_uint32), ("elem_flags", ctypes.c_uint64), ("flags", ctypes.c_uint64)]


def _bpf(command, attributes):
    return _libc.syscall(SYS_BPF, command, ctypes.byref(attributes), ctypes.sizeof(attributes))


def _work(ready):
    created = _bpf(BPF_MAP_CREATE, _Create(BPF_MAP_TYPE_HASH, 4, 8, ENTRIES, 0))
    keys, values = (ctypes.c_uint32 * ENTRIES)(*range(ENTRIES)), (ctypes.c_uint64 * ENTRIES)()
    position = ctypes.c_uint32()

    def batch():
        return _Batch(0, ctypes.addressof(position), ctypes.addressof(keys), ctypes.addressof(values), ENTRIES, created, 0, 0)

    if created < 0 or _bpf(BPF_MAP_UPDATE_BATCH, batch()) < 0:
        ready.put(os.strerror(ctypes.get_errno()))
        return
    ready.put("")
    while True:
        _bpf(BPF_MAP_LOOKUP_BATCH, batch())


class BusyMaps:
    """One process per processor, until closed."""

    def __enter__(self):
        ready = multiprocessing.Queue()
        self._workers = [multiprocessing.Process(target=_work, args=(ready,), daemon=True) for _ in range(os.cpu_count())]
        for worker in self._workers:
            worker.start()
        problems = [ready.get() for _ in self._workers]
        if any(problems):
            raise RuntimeError(f"cannot make BPF maps: {problems}")
        return self

    def __exit__(self, *_):
        for worker in self._workers:
            worker.kill()
            worker.join()
