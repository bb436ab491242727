# SPDX-License-Identifier: GPL-2.0-or-later
"""A pod of a runtime that keeps no libcni cache: named by what the real IPAM plugin and kubelet leave on the node."""

import os
import shutil

from lib.cni import call_plugin
from lib.portmap import Pod, plugin_path

PODS = "/var/lib/kubelet/pods"
LOGS = "/var/log/pods"
IPAM = "/var/lib/cni/networks"
UID = "3c9e0f52-0000-4000-8000-{:012x}"


class UncachedPod(Pod):
    def __init__(self, node, namespace, name, addresses):
        """node: where it runs."""
        super().__init__(namespace, name, addresses)
        self._node = node
        uid = UID.format(int(self.container_id[:12], 16))
        self._folder = f"{PODS}/{uid}"
        self._logs = f"{LOGS}/default_{name}_{uid}"

    def reserve(self):
        self._host_local("ADD")

    def announce(self, mappings=()):
        """A container of it is started (kubernetes, pkg/kubelet/kubelet_pods.go: managedHostsFileContent)."""
        os.makedirs(self._folder)
        os.makedirs(self._logs)
        with open(f"{self._folder}/etc-hosts", "w", encoding="ascii") as file:
            file.write("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
                       "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
                       + "".join(f"{address}\t{self.name}\n" for address in self.addresses.values()))

    def forget(self):
        self._host_local("DEL")
        shutil.rmtree(self._folder)
        shutil.rmtree(self._logs)

    def _host_local(self, command):
        ranges = [[{"subnet": "10.224.0.0/24"}], [{"subnet": "fd00:10:224::/64"}]]
        config = {"cniVersion": "1.0.0", "name": self.network, "args": {"cni": {"ips": list(self.addresses.values())}},
                  "ipam": {"type": "host-local", "dataDir": IPAM, "ranges": ranges}}
        call_plugin(self._node, plugin_path("host-local"), command, self.container_id, self.netns, config,
                    os.environ["PATH"])
