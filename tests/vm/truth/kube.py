# SPDX-License-Identifier: GPL-2.0-or-later
"""What the real kube-proxy wrote on a node, put onto another one: rules, sets and servers of tests/dumps (kube tier)."""

import json
import os
import re

DUMPS = os.path.join(os.path.dirname(__file__), "..", "..", "dumps")
VERSION = "1.37"
FAMILIES = {4: ("iptables", "ip"), 6: ("ip6tables", "ip6")}
_HOOKS = "PREROUTING|OUTPUT|INPUT|FORWARD|POSTROUTING"
_JUMP = re.compile(rf"-A ({_HOOKS}) (.*-j KUBE-.*)")
# Of other programs, in the same files; a rule that needs an object of nfacct; and the base chains, which kube-proxy does
# not name: a hook is registered when its first rule comes.
_LEFT_OUT = re.compile(rf"CNI-|-m nfacct |^:({_HOOKS}) ")


class KubeProxy:
    """mode: "iptables", "ipvs", "nftables", or "kube-router" (ipvs without kube-proxy's rules).
    backend: of its iptables rules, "legacy" or "nft" (nftables mode: unused)."""

    def __init__(self, node, mode, backend="nft"):
        self._node, self.mode, self._backend = node, mode, backend
        # Where kube-proxy came first and alone, with the back end it used.
        kube_mode = "ipvs" if mode == "kube-router" else mode
        self._dump = f"{DUMPS}/kube-{VERSION}-{kube_mode}-{'after' if kube_mode != 'iptables' or backend == 'nft' else 'legacy'}"

    def start(self):
        if self.mode == "nftables":
            self._node.run("nft", "-j", "-f", "-", stdin=json.dumps({"nftables": self._tables()}))
            return
        if self.mode in ("ipvs", "kube-router"):
            self._servers("kube-ipvs0" if self.mode == "ipvs" else "kube-dummy-if")
        if self.mode != "kube-router":
            self._rules()

    def restart(self):
        """kube-proxy in nftables mode makes its base chains anew when it starts (1.30 and later)."""
        tables = self._tables()
        delete = [{"delete": {"table": {"family": family, "name": "kube-proxy"}}} for _, family in FAMILIES.values()]
        self._node.run("nft", "-j", "-f", "-", stdin=json.dumps({"nftables": delete + tables}))

    def _read(self, name):
        with open(f"{self._dump}/{name}", encoding="utf-8") as file:
            return file.read()

    def _tables(self):
        found = []
        for entry in json.loads(self._read("nft.json"))["nftables"]:
            (kind, body), = entry.items()
            if kind == "metainfo" or (body["name"] if kind == "table" else body["table"]) != "kube-proxy":
                continue
            body.pop("handle", None)
            found.append({"add": {kind: body}})
        kinds = ("table", "chain", "set", "map", "rule")  # maps name chains
        return sorted(found, key=lambda entry: kinds.index(next(iter(entry["add"]))))

    def _rules(self):
        for command, _ in FAMILIES.values():
            dump = self._read(f"{command}-{'legacy' if self._dump.endswith('legacy') else 'nft'}.save")
            jumps, rest = [], []
            table = ""
            for line in dump.splitlines():
                table = line[1:] if line.startswith("*") else table
                if match := _JUMP.match(line):
                    jumps.append((table, *match.groups()))
                elif not _LEFT_OUT.search(line):
                    rest.append(line)
            self._node.run(f"{command}-{self._backend}-restore", "-w", "--noflush", stdin="\n".join(rest) + "\n")
            # kube-proxy prepends its jumps, whatever the chains hold; the last one written stands first.
            for table in ("nat", "filter", "mangle"):
                inserts = [f"-I {chain} 1 {rule}" for at, chain, rule in reversed(jumps) if at == table]
                if inserts:
                    self._node.run(f"{command}-{self._backend}-restore", "-w", "--noflush",
                                   stdin="\n".join([f"*{table}", *inserts, "COMMIT"]) + "\n")

    def _servers(self, device):
        self._node.run("modprobe", "ip_vs_rr")
        self._node.sysctl("net/ipv4/vs/conntrack", 1)
        entries = {entry["ifname"]: entry for entry in json.loads(self._read("addresses.json"))}
        addresses = [f"address add {address['local']}/{address['prefixlen']} dev {device}"
                     for address in entries["kube-ipvs0"]["addr_info"] if address["scope"] != "link"]
        up = [f"link set {device} up"] if self.mode == "kube-router" else []  # kube-proxy leaves it down
        self._node.ip("\n".join([f"link add {device} type dummy", *up, *addresses]) + "\n")
        if self.mode == "ipvs":
            # How a set is hashed decides nothing, and cannot be said to Linux 5.10.
            sets = re.sub(r" (bucketsize|initval) \S+", "", self._read("ipset.save"))
            self._node.run("ipset", "restore", stdin=sets)
        self._node.run("ipvsadm", "-R", stdin=self._read("ipvs.save"))
