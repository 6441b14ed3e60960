#!/usr/bin/env python3
"""Runs a command under a seccomp profile of Docker, as a container without capabilities has it.

under_seccomp.py PROFILE COMMAND...
"""

import ctypes
import json
import os
import sys

COMPARE = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]
ALLOW = 0x7FFF0000
ERRNO = 0x00050000
EPERM = 1


class Argument(ctypes.Structure):
    _fields_ = [
        ("index", ctypes.c_uint),
        ("compare", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


def main():
    with open(sys.argv[1]) as file:
        profile = json.load(file)
    lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_init.argtypes = [ctypes.c_uint32]
    lib.seccomp_load.argtypes = [ctypes.c_void_p]
    lib.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(Argument),
    ]
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    filter = lib.seccomp_init(ERRNO | EPERM)
    for rule in profile["syscalls"]:
        if is_for_this_machine(rule):
            add(lib, filter, rule)
    if lib.seccomp_load(filter) != 0:
        sys.exit("under_seccomp.py: the kernel does not take the profile")
    os.execv(sys.argv[2], sys.argv[2:])


def is_for_this_machine(rule):
    """A container without capabilities on amd64, with a new kernel."""
    includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
    return (
        not includes.get("caps")
        and "amd64" in includes.get("arches", ["amd64"])
        and "amd64" not in excludes.get("arches", [])
    )


def add(lib, filter, rule):
    given = rule.get("args") or []
    allow = rule["action"] == "SCMP_ACT_ALLOW"
    action = ALLOW if allow else ERRNO | rule.get("errnoRet", EPERM)
    arguments = (Argument * len(given))(
        *(
            Argument(
                one["index"],
                COMPARE.index(one["op"].removeprefix("SCMP_CMP_")) + 1,
                one["value"],
                one.get("valueTwo", 0),
            )
            for one in given
        )
    )
    for name in rule["names"]:
        number = lib.seccomp_syscall_resolve_name(name.encode())
        # An older library does not know the newest calls.
        if number >= 0:
            lib.seccomp_rule_add_array(filter, action, number, len(given), arguments)


main()
