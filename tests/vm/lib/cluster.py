# SPDX-License-Identifier: GPL-2.0-or-later
"""A two-node cluster in network namespaces: the node under test, another node with the real servers, an outside host.

    client  10.224.0.223 ─┐                             ┌─ mysql-a 10.224.1.224
    mysql-b 10.224.0.222 ─ cni0 [node] ── lan ── [node-1] cni0
    mysql-c 10.224.0.226 ─┘      .0.2      │       .0.1  └─ redis 10.224.1.225
    (hostPorts 3306, 30306)          outside 192.168.0.50
"""

from lib.netns import Namespace
from lib.servers import NameServers

NODE = {4: "192.168.0.2", 6: "fd00:192:168::2"}
NODE_CNI0 = {4: "10.224.0.1", 6: "fd00:10:224::1"}
MYSQL_A = {4: "10.224.1.224", 6: "fd00:10:224:1::e0"}
MYSQL_B = {4: "10.224.0.222", 6: "fd00:10:224::de"}
MYSQL_C = {4: "10.224.0.226", 6: "fd00:10:224::e2"}
REDIS = {4: "10.224.1.225", 6: "fd00:10:224:1::e1"}
CLIENT = {4: "10.224.0.223", 6: "fd00:10:224::df"}
POD_CIDR = {4: "10.224.0.0/16", 6: "fd00:10:224::/48"}
SERVICE_CIDR = {4: "10.96.0.0/16", 6: "fd00:10:96::/112"}


class Cluster:
    """Builds the namespaces, cables, routes and servers; `node`: a namespace to use as the node (default: a new one).
    prefix: of the namespaces' and the servers' names, for a second cluster with the same addresses; two letters at most."""

    def __init__(self, node=None, prefix=""):
        self._made = []
        self._prefix = prefix
        self.node = node or self._create("node")
        lan = self._create("lan")
        self.node_1 = self._create("node-1")
        self.outside = self._create("outside")
        self.mysql_a = self._create("mysql-a")
        self.mysql_b = self._create("mysql-b")
        self.mysql_c = self._create("mysql-c")
        self.redis = self._create("redis")
        self.client = self._create("client")

        lan.ip("link add lan type bridge mcast_snooping 0\nlink set lan up\n")
        self._host(lan, self.node, "uplink", NODE[4] + "/24", NODE[6] + "/64")
        self._host(lan, self.node_1, "uplink", "192.168.0.1/24", "fd00:192:168::1/64")
        self._host(lan, self.outside, "eth0", "192.168.0.50/24", "fd00:192:168::50/64")
        self._pods(self.node, 0, ((self.mysql_b, MYSQL_B), (self.mysql_c, MYSQL_C), (self.client, CLIENT)))
        self._pods(self.node_1, 1, ((self.mysql_a, MYSQL_A), (self.redis, REDIS)))
        self.node.ip("route add 10.224.1.0/24 via 192.168.0.1\nroute add fd00:10:224:1::/64 via fd00:192:168::1\n")
        self.node_1.ip("route add 10.224.0.0/24 via 192.168.0.2\nroute add fd00:10:224::/64 via fd00:192:168::2\n")
        # The outside host reaches ClusterIPs the way a router in front of the nodes lets it.
        self.outside.ip(f"route add {SERVICE_CIDR[4]} via {NODE[4]}\nroute add {SERVICE_CIDR[6]} via {NODE[6]}\n")

        self.servers = NameServers()
        for server, port in ((self.mysql_a, 3306), (self.mysql_b, 3306), (self.mysql_c, 3306), (self.redis, 6379)):
            self.servers.add(server, server.name, port)

    def close(self):
        self.servers.close()
        for namespace in reversed(self._made):
            namespace.delete()

    def _create(self, name):
        namespace = Namespace.create(self._prefix + name)
        self._made.append(namespace)
        return namespace

    @staticmethod
    def _host(lan, host, interface, address, address6):
        """Plugs a host into the local network."""
        lan.ip(f"link add {host.name} type veth peer name {interface} netns {host.name}\n"
               f"link set {host.name} master lan up\n")
        host.ip("link set lo up\n"
                f"address add {address} dev {interface}\naddress add {address6} dev {interface} nodad\n"
                f"link set {interface} up\n")

    @staticmethod
    def _pods(node, number, pods):
        """A node's pod network: the bridge cni0 is the pods' gateway, as the CNI bridge plugin makes it."""
        gateway, gateway6 = f"10.224.{number}.1", "fd00:10:224:%s:1" % (f"{number}:" if number else "")
        for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            node.sysctl(key, 1)
        node.ip("link add cni0 type bridge mcast_snooping 0\nlink set cni0 up\n"
                f"address add {gateway}/24 dev cni0\naddress add {gateway6}/64 dev cni0 nodad\n")
        for pod, address in pods:
            node.ip(f"link add veth-{pod.name} type veth peer name eth0 netns {pod.name}\n"
                    f"link set veth-{pod.name} master cni0 up\n")
            pod.ip("link set lo up\nlink set eth0 up\n"
                   f"address add {address[4]}/24 dev eth0\naddress add {address[6]}/64 dev eth0 nodad\n"
                   f"route add default via {gateway}\nroute add default via {gateway6}\n")
