# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a command that gets no news of kernel modules, as a container's seccomp profile may have it: deny_uevents.py COMMAND..."""

import ctypes
import errno
import os
import platform
import sys

AF_NETLINK, NETLINK_KOBJECT_UEVENT = 16, 15
SYS_SOCKET = {"x86_64": 41, "aarch64": 198}[platform.machine()]
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO = 0x7FFF0000, 0x00050000
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
NUMBER, FIRST, THIRD = 0, 16, 32  # offsets in struct seccomp_data: the call, its arguments


class Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("value", ctypes.c_uint32)]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(Instruction))]


def main():
    lines = ((LOAD, 0, 0, NUMBER), (JUMP_IF_EQUAL, 0, 5, SYS_SOCKET),
             (LOAD, 0, 0, FIRST), (JUMP_IF_EQUAL, 0, 3, AF_NETLINK),
             (LOAD, 0, 0, THIRD), (JUMP_IF_EQUAL, 0, 1, NETLINK_KOBJECT_UEVENT),
             (RETURN, 0, 0, SECCOMP_RET_ERRNO | errno.EPERM), (RETURN, 0, 0, SECCOMP_RET_ALLOW))
    program = Program(len(lines), (Instruction * len(lines))(*(Instruction(*line) for line in lines)))
    libc = ctypes.CDLL(None, use_errno=True)
    if (libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0):
        sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
