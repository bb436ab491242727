# SPDX-License-Identifier: GPL-2.0-or-later
"""Who writes hostPorts: the columns of the truth table."""

import re

from lib.portmap import prepend_jumps
from tier import services
from tier.nodes import Cluster, Intruder
from tier.proxy import iptables_path
from truth.runtime import DirectNode


class Producer:
    """column: A portmap in kube-proxy's own xtables back end; A0 the same with the jumps in front (portmap 0.6.0 to
    0.7.4); B in the other xtables back end; C portmap's nftables back end; D that of 1.6.1 to 1.8.0, whose
    prerouting chain has no local check. kube_backend: "legacy" or "nft"."""

    def __init__(self, column, kube_backend, ports):
        self.column, self._ports = column, ports
        other = {"legacy": "nft", "nft": "legacy"}
        self._backend = other[kube_backend] if column == "B" else kube_backend
        # Debian has no portmap of that time, and none that old.
        self._version = {"A": "1.9", "A0": "0.9", "B": "1.1", "C": "1.9", "D": "1.9"}[column]
        self._cluster, self._intruder = None, None

    def cluster(self):
        portmap = {"C": "nftables", "D": None}.get(self.column, "iptables")
        self._cluster = Cluster(lambda namespace: DirectNode(namespace, self._version,
                                                             portmap if namespace.name == "node" else None))
        self._intruder = Intruder(self._cluster, iptables_path(self._backend), self._ports)
        return self._cluster

    def start(self):
        self._intruder.start()
        if self._backend == "legacy" and self.column in ("A", "A0", "B"):
            self._add_what_ip6tables_legacy_left_out()
        if self.column == "A0":
            prepend_jumps(self._cluster.node, self._backend)
        if self.column == "D":
            for family in services.FAMILIES:
                self._cluster.node.run("nft", "-f", "-", stdin=self._without_local_check(family))

    def stop(self):
        """What portmap wrote goes with the pod."""
        self._intruder.stop()

    def _add_what_ip6tables_legacy_left_out(self):
        """ip6tables-legacy 1.8.9 takes -C of any --dport for a match, so portmap adds the first port's rule only."""
        node, ip6tables = self._cluster.node, ("ip6tables-legacy-restore", "-w", "--noflush")
        chain = re.search(r"^:(CNI-DN-\S+)", node.run("ip6tables-legacy-save", "-t", "nat"), re.MULTILINE).group(1)
        node.run(*ip6tables, stdin="\n".join([
            "*nat", f"-F {chain}",
            *(f"-A {chain} -p {protocol} -m {protocol} --dport {port} -j DNAT --to-destination "
              f"[{services.pod_address('intruder', 6)}]:{port}" for port, protocol in self._ports), "COMMIT"]) + "\n")

    def _without_local_check(self, family):
        """As portmap_nftables.go of 1.6.1 (9296c5f8) writes it."""
        address, ip = services.pod_address("intruder", family), "ip" if family == 4 else "ip6"
        target = address if family == 4 else f"[{address}]"
        sandbox = self._intruder.container_id
        ports = "\n".join(f'    {protocol} dport {port} dnat to {target}:{port} comment "{sandbox}"'
                          for port, protocol in self._ports)
        localhost = f'    ip saddr 127.0.0.1 ip daddr {address} masquerade comment "{sandbox}"\n' if family == 4 else ""
        return f"""table {ip} cni_hostport {{
  comment "CNI portmap plugin"
  chain hostports {{
{ports}
  }}
  chain hostip_hostports {{
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    jump hostip_hostports
    jump hostports
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    jump hostip_hostports
    fib daddr type local jump hostports
  }}
  chain masquerading {{
    type nat hook postrouting priority srcnat; policy accept;
    {ip} saddr {address} {ip} daddr {address} masquerade comment "{sandbox}"
{localhost}  }}
}}
"""
