# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes of rules and Services, by every way that hptrace counts, and from where they are least expected."""

import ctypes
import os
import socket
import struct

# Each is undone by the one after it, or by itself.
_COMMANDS = (("nft", "add table ip churn; delete table ip churn"),
             ("iptables-legacy", "-w", "-A", "OUTPUT", "-j", "ACCEPT"),
             ("iptables-legacy", "-w", "-D", "OUTPUT", "-j", "ACCEPT"),
             ("ipvsadm", "-A", "-t", "192.0.2.1:80"),
             ("ipvsadm", "-D", "-t", "192.0.2.1:80"))

_IPT_SO_SET_REPLACE = _IPT_SO_GET_INFO = 64  # linux/netfilter_ipv4/ip_tables.h
_IPT_SO_GET_ENTRIES = 65

_libc = ctypes.CDLL(None, use_errno=True)


def change_all(namespace):
    """Changes something of each kind in the namespace, and changes it back."""
    for command in _COMMANDS:
        namespace.run(*command)


def rewrite_table(namespace, table):
    """Replaces an IPv4 table of iptables-legacy by itself, through a socket of the namespace, from outside of it."""
    with namespace:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    name = table.encode().ljust(32, b"\0")
    info = _get(raw, _IPT_SO_GET_INFO, name, 84)  # struct ipt_getinfo
    valid_hooks, *points = struct.unpack_from("11I", info, 32)
    number, size = struct.unpack_from("2I", info, 76)
    entries = _get(raw, _IPT_SO_GET_ENTRIES, name + struct.pack("I", size), 40 + size)[40:]  # struct ipt_get_entries
    counters = ctypes.create_string_buffer(16 * number)
    replace = name + struct.pack("3I", valid_hooks, number, size) + struct.pack("10I", *points)  # struct ipt_replace
    replace += struct.pack("=IQ", number, ctypes.addressof(counters)) + entries
    raw.setsockopt(socket.SOL_IP, _IPT_SO_SET_REPLACE, replace)
    raw.close()


def _get(raw, option, request, size):
    buffer, length = ctypes.create_string_buffer(request, size), ctypes.c_uint(size)
    if _libc.getsockopt(raw.fileno(), socket.SOL_IP, option, buffer, ctypes.byref(length)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return buffer.raw
