# SPDX-License-Identifier: GPL-2.0-or-later
"""The node's state as a dump folder, by the standard tools. Reading changes nothing: what is unused is not opened."""

import json
import os
import re
import shutil
import subprocess

TOOLS = {"iptables": ("iptables", "--version"), "nft": ("nft", "--version"), "ipvsadm": ("ipvsadm", "--version"),
         "ipset": ("ipset", "--version"), "ip": ("ip", "-V")}


def take(namespace, folder, results, time):
    """Writes the folder; results: libcni's cache files; time: RFC 3339."""
    os.makedirs(folder, exist_ok=True)
    sources = {}

    def save(source, used, files):
        sources[source] = {"state": "used" if used else "unused"}
        for name, command in files.items() if used else ():
            text = namespace.run(*command)
            with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
                file.write(_without_noise(text))

    for command, names in (("iptables", "ip_tables_names"), ("ip6tables", "ip6_tables_names")):
        save(f"{command}-legacy", bool(_names(namespace, names)),
             {f"{command}-legacy.save": (f"{command}-legacy-save",)})
    ruleset = namespace.run("nft", "list", "tables")
    files = {"nft.json": ("nft", "-j", "list", "ruleset")}
    for command, family in (("iptables", "ip"), ("ip6tables", "ip6")):
        if re.search(rf"^table {family} (nat|filter|mangle|raw|security)$", ruleset, re.MULTILINE):
            files[f"{command}-nft.save"] = (f"{command}-nft-save",)
    save("nf_tables", bool(ruleset.strip()), files)
    virtual = namespace.run("ipvsadm", "-S", "-n") if os.path.exists("/sys/module/ip_vs") else ""
    save("ip_vs", bool(virtual.strip()), {"ipvs.save": ("ipvsadm", "-S", "-n")})
    sets = namespace.run("ipset", "save") if os.path.exists("/sys/module/ip_set") else ""
    save("ipset", bool(sets.strip()), {"ipset.save": ("ipset", "save")})
    save("addresses", True, {"addresses.json": ("ip", "-j", "addr")})
    save("routes", True, {"routes-local.json": ("ip", "-j", "route", "show", "table", "local")})
    _add_routes6(namespace, f"{folder}/routes-local.json")
    if os.path.isdir(results):
        os.makedirs(f"{folder}/cni-results", exist_ok=True)
        for name in os.listdir(results):  # without their modes: whoever tests reads them
            shutil.copyfile(f"{results}/{name}", f"{folder}/cni-results/{name}")
    sources["cni"] = {"state": "used" if os.path.isdir(results) else "unused"}
    meta = {"time": time, "node": "node", "kernel": os.uname().release, "sources": sources,
            "tools": {name: subprocess.run(command, text=True, capture_output=True, check=False).stdout.strip()
                      for name, command in TOOLS.items()}}
    with open(f"{folder}/meta.json", "w", encoding="utf-8") as file:
        json.dump(meta, file, indent=1)
        file.write("\n")


def _names(namespace, name):
    try:
        with namespace, open(f"/proc/thread-self/net/{name}", encoding="ascii") as file:
            return file.read().split()
    except FileNotFoundError:  # the back end is not loaded
        return []


def _add_routes6(namespace, path):
    """`ip route` shows one family at a time; both belong into the file."""
    with open(path, encoding="utf-8") as file:
        routes = json.load(file)
    routes += json.loads(namespace.run("ip", "-j", "-6", "route", "show", "table", "local") or "[]")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(routes, file)
        file.write("\n")


def _without_noise(text):
    """Times and packet counts differ every time and say nothing about the rules."""
    text = re.sub(r"^# (Generated|Completed) .*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^(:\S+ \S+) \[\d+:\d+\]$", r"\1 [0:0]", text, flags=re.MULTILINE)
