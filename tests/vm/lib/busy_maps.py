# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps every processor inside BPF map operations, during which the kernel runs no kprobe program (bpf_prog_active)."""

import ctypes
import multiprocessing
import os

from lib.bpf_syscall import bpf, unlimited_memory

BPF_MAP_CREATE, BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM = 0, 1, 2
BPF_MAP_TYPE_LPM_TRIE, BPF_F_NO_PREALLOC = 11, 1
KEY_BYTES = 256  # LPM_TRIE_DATA_SIZE_MAX
VALUE_BYTES = 8


class _Create(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("type", "key_size", "value_size", "max_entries", "flags")]


class _Element(ctypes.Structure):
    _fields_ = [("map_fd", ctypes.c_uint32), *((name, ctypes.c_uint64) for name in ("key", "value", "flags"))]


class _Key(ctypes.Structure):
    _fields_ = [("prefix_length", ctypes.c_uint32), ("bytes", ctypes.c_uint8 * KEY_BYTES)]


def _bpf(command, attributes):
    return bpf(command, ctypes.byref(attributes), ctypes.sizeof(attributes))


def _work(ready):
    """A prefix of every length, each within the next: a lookup passes them all, so its system call is little but the lookup."""
    prefixes = 8 * KEY_BYTES + 1
    unlimited_memory()
    trie = _bpf(BPF_MAP_CREATE, _Create(BPF_MAP_TYPE_LPM_TRIE, ctypes.sizeof(_Key), VALUE_BYTES, prefixes, BPF_F_NO_PREALLOC))
    key, value = _Key(), (ctypes.c_uint8 * VALUE_BYTES)()
    element = _Element(trie, ctypes.addressof(key), ctypes.addressof(value), 0)
    for key.prefix_length in range(prefixes):
        if trie < 0 or _bpf(BPF_MAP_UPDATE_ELEM, element) < 0:
            ready.put(os.strerror(ctypes.get_errno()))
            return
    ready.put("")
    while True:
        _bpf(BPF_MAP_LOOKUP_ELEM, element)


class BusyMaps:
    """One process per processor, until closed."""

    def __enter__(self):
        ready = multiprocessing.Queue()
        self._workers = [multiprocessing.Process(target=_work, args=(ready,), daemon=True) for _ in range(os.cpu_count())]
        for worker in self._workers:
            worker.start()
        problems = [ready.get() for _ in self._workers]
        if any(problems):
            raise RuntimeError(f"cannot make a BPF map: {problems}")
        return self

    def __exit__(self, *_):
        for worker in self._workers:
            worker.kill()
            worker.join()
