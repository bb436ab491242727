# SPDX-License-Identifier: GPL-2.0-or-later
"""The distribution's portmap plugin, called the way a container runtime calls it, and the libcni cache file it leaves."""

import hashlib
import os
import tempfile

from lib.cni import cache_file, call_plugin, write_cache

PLUGINS = ("/usr/lib/cni", "/opt/cni/bin")
CACHE = "/var/lib/cni/results"


class Pod:
    """A sandbox as the runtime knows it. `spelling`: whose key names its cache file uses, "containerd" or "cri-o"."""

    network = "cbr0"

    def __init__(self, namespace, name, addresses, spelling="containerd"):
        self.namespace = namespace
        self.name = name
        self.addresses = addresses
        self._spelling = spelling
        self.container_id = hashlib.sha256(f"sandbox of {name}".encode()).hexdigest()
        self.netns = f"/run/netns/{namespace.name}"

    @property
    def chain(self):
        """portmap's chain of this sandbox: utils.MustFormatHashWithPrefix(28, "CNI-DN-", network + container id)."""
        return "CNI-DN-" + hashlib.sha512((self.network + self.container_id).encode()).hexdigest()[:21]

    def prev_result(self):
        return {"cniVersion": "1.0.0",
                "interfaces": [{"name": "cni0", "mac": "0a:58:0a:e0:00:01"}, {"name": f"veth-{self.namespace.name}"},
                               {"name": "eth0", "sandbox": self.netns}],
                "ips": [{"interface": 2, "address": f"{self.addresses[4]}/24", "gateway": "10.224.0.1"},
                        {"interface": 2, "address": f"{self.addresses[6]}/64", "gateway": "fd00:10:224::1"}],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}], "dns": {}}

    def reserve(self):
        """Its addresses, before it has its network. host-local is not used here."""

    def announce(self, mappings=()):
        """Once its network is there: libcni writes its cache."""
        keys = ("HostPort", "ContainerPort", "Protocol", "HostIP")  # go-cni's PortMapping has no json tags
        if self._spelling == "cri-o":
            keys = ("hostPort", "containerPort", "protocol", "hostIP")
        arguments = {"io.kubernetes.cri.pod-annotations": {}}
        if mappings:
            arguments["portMappings"] = [dict(zip(keys, (host, container, protocol, "")))
                                         for host, container, protocol in mappings]
        write_cache(CACHE, {"cniVersion": "1.0.0", "name": self.network,
                            "plugins": [{"type": "bridge"}, {"type": "portmap"}]},
                    self.container_id, self.netns,
                    [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", self.name],
                     ["K8S_POD_INFRA_CONTAINER_ID", self.container_id],
                     ["K8S_POD_UID", "7d1c1c5e-0000-4000-8000-000000000000"]], arguments, self.prev_result())

    def forget(self):
        os.unlink(cache_file(CACHE, self.network, self.container_id))


def plugin_path(name):
    return next(path for path in (f"{folder}/{name}" for folder in PLUGINS) if os.path.exists(path))


def prepend_jumps(node, backend):
    """Puts portmap's jumps where 0.6.0 to 0.7.4 put them: in front."""
    jump = ("-m", "addrtype", "--dst-type", "LOCAL", "-j", "CNI-HOSTPORT-DNAT")
    for command in ("iptables", "ip6tables"):
        for chain in ("PREROUTING", "OUTPUT"):
            nat = (f"{command}-{backend}", "-w", "-t", "nat")
            node.run(*nat, "-D", chain, *jump)
            node.run(*nat, "-I", chain, "1", *jump)


class Portmap:
    """portmap on a node, writing through one iptables back end: "legacy" or "nft"."""

    def __init__(self, node, backend, pod, mappings):
        """mappings: (host port, container port, protocol) of the pod."""
        self._node = node
        self._backend = backend
        self._pod = pod
        self._mappings = mappings
        self._path = tempfile.mkdtemp(prefix=f"iptables-{backend}-")
        for name in ("iptables", "ip6tables"):
            # Alternatives, as Debian's update-alternatives would set them.
            os.symlink(f"/usr/sbin/{name}-{backend}", f"{self._path}/{name}")

    def add(self):
        self._pod.reserve()
        self._call("ADD")
        self._pod.announce(self._mappings)

    def delete(self):
        self._call("DEL")
        self._pod.forget()

    def prepend_jumps(self):
        prepend_jumps(self._node, self._backend)

    def _call(self, command):
        config = {"cniVersion": "1.0.0", "name": self._pod.network, "type": "portmap", "snat": True,
                  "capabilities": {"portMappings": True},
                  "runtimeConfig": {"portMappings": [{"hostPort": host, "containerPort": container, "protocol": protocol}
                                                     for host, container, protocol in self._mappings]},
                  "prevResult": self._pod.prev_result()}
        call_plugin(self._node, plugin_path("portmap"), command, self._pod.container_id, self._pod.netns, config,
                    f"{self._path}:/usr/sbin:/usr/bin:/sbin:/bin")
