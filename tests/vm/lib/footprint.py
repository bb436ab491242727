# SPDX-License-Identifier: GPL-2.0-or-later
"""What hptrace must leave as it is: modules, tables, rules, sets, servers and addresses of a node."""

import time

from lib.kernel import has_modules


def modules():
    """Name -> users. The sizes and addresses do not matter, the users do: nothing may be left holding a module."""
    return {line.split()[0]: line.split()[2] for line in read("/proc/modules").splitlines()} if has_modules() else {}


def in_use(module):
    """Asking it loads nothing."""
    return module in modules() if has_modules() else True


def footprint(node):
    """Asks only subsystems that are loaded and tables that exist: asking would load and make them."""
    state = {"/proc/modules": modules()}
    with node:
        for file in ("ip_tables_names", "ip6_tables_names", "arp_tables_names"):
            state[file] = read(f"/proc/thread-self/net/{file}")
    if in_use("nf_tables"):
        state["nft list ruleset"] = node.run("nft", "list", "ruleset")
    if in_use("ip_vs"):
        state["ipvsadm -Sn"] = node.run("ipvsadm", "-Sn")
    if in_use("ip_set"):
        state["ipset save"] = node.run("ipset", "save")
    for name, file in (("iptables-legacy", "ip_tables_names"), ("ip6tables-legacy", "ip6_tables_names")):
        if "nat" in state[file].split():
            state[name] = "\n".join(line for line in node.run(f"{name}-save", "-t", "nat").splitlines()
                                    if not line.startswith("#"))
    state["addresses"] = node.run("ip", "-o", "address")
    return state


def changes_since(before, node):
    """One line each."""
    # A module's users go down some time after the last reference is dropped (RCU).
    deadline = time.monotonic() + 20
    while (after := footprint(node)) != before and time.monotonic() < deadline:
        time.sleep(0.2)
    return [f"{name} changed: {before.get(name)!r} -> {after.get(name)!r}"
            for name in sorted(before | after) if before.get(name) != after.get(name)]


def read(path):
    """The file's text, or "(absent)"."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return "(absent)"
