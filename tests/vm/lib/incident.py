# SPDX-License-Identifier: GPL-2.0-or-later
"""The incident: a hostPort pod takes over a Service. Builds one row of the matrix on a cluster."""

from dataclasses import dataclass

from lib.cluster import Cluster, MYSQL_A, MYSQL_B, MYSQL_C, CLIENT, REDIS
from lib.kubeproxy import KubeProxy, Service
from lib.portmap import Pod, Portmap
from lib.uncached import UncachedPod

MYSQL = Service("mysql-a", {4: "10.96.0.10", 6: "fd00:10:96::a"}, 3306,
                {4: (MYSQL_A[4], 3306), 6: (MYSQL_A[6], 3306)}, node_port=30306)
OTHER = Service("redis", {4: "10.96.0.20", 6: "fd00:10:96::14"}, 6379,
                {4: (REDIS[4], 6379), 6: (REDIS[6], 6379)})

EMPTY = Service("empty", {4: "10.96.0.30", 6: "fd00:10:96::1e"}, 3306, {})


@dataclass
class Row:
    """One line of the matrix. cluster_ip: the reason code of a hijacked ClusterIP, or "" where the Service wins."""

    name: str
    cluster_ip: str
    other_backend: bool = False
    prepended: bool = False
    kube_router: bool = False
    delete: bool = False  # the hostPort pods go while hptrace watches
    uncached: bool = False  # the NodePort's hostPort pod has no libcni cache


ROWS = (Row("same-table", ""),
        Row("other-backend", "other_backend", other_backend=True, delete=True),
        Row("prepended", "jump_before_kube_services", prepended=True, uncached=True),
        Row("kube-router", "no_accept", kube_router=True))


class Incident:
    """The cluster of one row. kube_backend: the iptables flavour ("legacy", "nft") of kube-proxy's rules. prefix: of all
    names, Cluster's and those of pods."""

    def __init__(self, row, kube_backend, node=None, services=(MYSQL, OTHER), prefix=""):
        self.cluster = Cluster(node, prefix)
        other = {"legacy": "nft", "nft": "legacy"}[kube_backend]
        self.portmap_backend = other if row.other_backend else kube_backend
        proxy = KubeProxy(self.cluster.node, kube_backend, services)
        if row.kube_router:
            proxy.start_kube_router()
        else:
            proxy.start_kube_proxy()
        # Two pods, because ip6tables-legacy 1.8.9 takes `-C` of any --dport for a match: portmap would leave out the
        # second port of one pod. It also shows that the right pod is named.
        self.mysql_b = Pod(self.cluster.mysql_b, f"{prefix}mysql-b-0", MYSQL_B, "containerd")
        mysql_c = self.cluster.mysql_c, f"{prefix}mysql-c-0", MYSQL_C
        self.mysql_c = UncachedPod(self.cluster.node, *mysql_c) if row.uncached else Pod(*mysql_c, "cri-o")
        self.app = Pod(self.cluster.client, f"{prefix}app-1", CLIENT)
        self.app.announce()
        self.portmaps = [
            Portmap(self.cluster.node, self.portmap_backend, self.mysql_b, [(3306, 3306, "tcp"), (3306, 3306, "udp")]),
            Portmap(self.cluster.node, self.portmap_backend, self.mysql_c, [(30306, 3306, "tcp"), (30306, 3306, "udp")])]
        self.add_pods()
        if row.prepended:
            self.portmaps[0].prepend_jumps()

    def add_pods(self):
        """The hostPort pods come: portmap ADD."""
        for portmap in self.portmaps:
            portmap.add()

    def delete_pods(self):
        """What the runtime does when the hostPort pods go: portmap DEL. Their servers keep running, to be noticed."""
        for portmap in self.portmaps:
            portmap.delete()

    def close(self):
        self.app.forget()
        self.cluster.close()
