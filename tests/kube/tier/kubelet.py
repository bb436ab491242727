# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of kubelet that kube-proxy up to 1.24 counts on: its KUBE-MARK-DROP marks what KUBE-FIREWALL drops.

As in pkg/kubelet/kubelet_network_linux.go of 1.16 to 1.24 (syncNetworkUtil), but for what kube-proxy writes itself too."""

RULES = """*nat
:KUBE-MARK-DROP - [0:0]
-A KUBE-MARK-DROP -j MARK --or-mark 0x00008000
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
-A KUBE-FIREWALL -m comment --comment "kubernetes firewall for dropping marked packets" -m mark --mark 0x00008000/0x00008000 -j DROP
{localnet}-I OUTPUT -j KUBE-FIREWALL
-I INPUT -j KUBE-FIREWALL
COMMIT
"""
LOCALNET = ('-A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" --dst 127.0.0.0/8 ! --src 127.0.0.0/8'
            " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n")


def write_rules(namespace, path):
    """path: decides which iptables they are written with."""
    for command, localnet in (("iptables-restore", LOCALNET), ("ip6tables-restore", "")):
        namespace.run(command, "--noflush", stdin=RULES.format(localnet=localnet), env={"PATH": path})
