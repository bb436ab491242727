# SPDX-License-Identifier: GPL-2.0-or-later
"""The cluster in network namespaces; pods come from the real CNI plugins, called by libcni."""

import hashlib
import json
import os
import shutil
import socket
import tempfile

from lib.netns import Namespace
from lib.servers import NameServers
from tier import services

IPPROTO_SCTP = 132
CACHE = "/var/lib/cni/results"  # libcni's own place


def sctp_works():
    """Whether this kernel speaks SCTP."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_SCTP).close()
        return True
    except OSError:
        return False


class Servers(NameServers):
    """Also answers over SCTP, on one address: a list of addresses in the handshake would not pass NAT."""

    def add_sctp(self, namespace, name, address, port):
        with namespace:
            listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM,
                                     IPPROTO_SCTP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(64)
        self._selector.register(listener, 1, (self._accept, name.encode() + b"\n"))


class Sandbox:
    """A pod's namespace as the runtime sees it."""

    def __init__(self, namespace, name):
        self.namespace, self.name = namespace, name
        self.container_id = hashlib.sha256(f"sandbox of {name}".encode()).hexdigest()

    def request(self, mappings, plugins, cache):
        """What containerd gives libcni: go-cni's PortMapping has no json tags, so its keys are the field names."""
        capabilities = {"io.kubernetes.cri.pod-annotations": {}}
        if mappings:
            capabilities["portMappings"] = [{"HostPort": port, "ContainerPort": port, "Protocol": protocol,
                                             "HostIP": ""} for port, protocol in mappings]
        arguments = [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", self.name],
                     ["K8S_POD_INFRA_CONTAINER_ID", self.container_id],
                     ["K8S_POD_UID", "7d1c1c5e-0000-4000-8000-" + self.container_id[:12]]]
        return json.dumps({"containerId": self.container_id, "netns": f"/run/netns/{self.namespace.name}",
                           "args": arguments, "capabilityArgs": capabilities, "pluginPath": plugins,
                           "cacheDir": cache})


class Node:
    """A node whose pods the CNI plugins attach, called by the program libcni.

    portmap: "iptables" or "nftables", its back end; none: without it. cni_version: of the network's configuration."""

    network = "cbr0"
    any_address = False  # a pod may get others than services.pod_address(), as one that comes a second time does

    def __init__(self, namespace, libcni, plugins, portmap="iptables", cni_version="1.0.0"):
        self.namespace = namespace
        self._libcni, self._plugins = libcni, plugins
        self._folder = tempfile.mkdtemp(prefix=f"cni-{namespace.name}-")
        # The node under test has libcni's own place, so that whoever looks there finds it.
        self.cache = os.path.dirname(CACHE) if namespace.name == "node" else self._folder
        ranges = [[{"subnet": subnet}] for subnet in services.NODE_CIDR[namespace.name].values()]
        self._conflist = {"cniVersion": cni_version, "name": self.network, "plugins": [
            {"type": "bridge", "bridge": "cni0", "isGateway": True, "isDefaultGateway": True, "hairpinMode": True,
             "ipam": {"type": "host-local", "dataDir": f"{self._folder}/ipam", "ranges": ranges}},
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True, "backend": portmap}]}
        if not portmap:
            del self._conflist["plugins"][1]

    def attach(self, sandbox, mappings=(), path=None):
        """path: PATH of the plugins, which decides which iptables portmap finds."""
        result = json.loads(self._call("add", sandbox, mappings, path))
        addresses = {entry["address"].split("/")[0] for entry in result["ips"]}
        wanted = {services.pod_address(sandbox.name, family) for family in services.FAMILIES}
        if addresses != wanted and not self.any_address:
            raise RuntimeError(f"{sandbox.name} got {addresses}, not {wanted}")

    def detach(self, sandbox, mappings=(), path=None):
        self._call("del", sandbox, mappings, path)

    def _call(self, command, sandbox, mappings, path):
        """command: add or del. Returns the result as JSON."""
        conflist = f"{self._folder}/10-{self.network}.conflist"
        with open(conflist, "w", encoding="ascii") as file:
            json.dump(self._conflist, file)
        return self.namespace.run(self._libcni, command, conflist,
                                  stdin=sandbox.request(mappings, self._plugins, self.cache),
                                  env={"PATH": path or os.environ["PATH"]})


class Cluster:
    """Two nodes, their pods, a host outside, and servers that say who they are as "pod:port"."""

    def __init__(self, make_node):
        """make_node: gives the Node of a namespace, called "node" (the one under test) or "node-1"."""
        shutil.rmtree(CACHE, ignore_errors=True)
        self._made = []
        lan, node, node_1, self.outside = (self._create(name) for name in ("lan", "node", "node-1", "outside"))
        lan.ip("link add lan type bridge mcast_snooping 0\nlink set lan up\n")
        for host, address in ((node, services.NODE), (node_1, services.NODE_1), (self.outside, services.OUTSIDE)):
            lan.ip(f"link add {host.name} type veth peer name eth0 netns {host.name}\n"
                   f"link set {host.name} master lan up\n")
            host.ip(f"link set lo up\naddress add {address[4]}/24 dev eth0\naddress add {address[6]}/64 dev eth0 nodad\n"
                    "link set eth0 up\n")
        # What a balancer would announce, and a second address of the node.
        second = services.SECOND_NODE_ADDRESS
        node.ip(f"address add {second[4]}/24 dev eth0\naddress add {second[6]}/64 dev eth0 nodad\n")
        self.nodes = {namespace.name: make_node(namespace) for namespace in (node, node_1)}
        for here, there in (("node", services.NODE_1), ("node-1", services.NODE)):
            namespace, other = self.nodes[here].namespace, "node-1" if here == "node" else "node"
            for family in services.FAMILIES:
                namespace.ip(f"route add {services.NODE_CIDR[other][family]} via {there[family]}\n")
                namespace.ip(f"route add default via {services.OUTSIDE[family]}\n")
            for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
                namespace.sysctl(key, 1)
        for family in services.FAMILIES:
            for network in (services.SERVICE_CIDR, services.EXTERNAL_CIDR):
                self.outside.ip(f"route add {network[family]} via {services.NODE[family]}\n")
        self.servers = Servers()
        self.servers.add(node_1, f"apiserver:{services.API_PORT}", services.API_PORT)
        self.pods = {}
        for name, pods in services.PODS.items():
            for pod in pods:
                self.pods[pod] = Sandbox(self._create(pod), pod)
                if pod != "intruder":  # comes and goes, see Intruder
                    self.nodes[name].attach(self.pods[pod])
        self._serve()

    @property
    def node(self):
        return self.nodes["node"].namespace

    def client(self, name):
        return {"pod": self.pods["app"].namespace, "node": self.node, "outside": self.outside}[name]

    def close(self):
        self.servers.close()
        for namespace in reversed(self._made):
            namespace.delete()

    def _create(self, name):
        namespace = Namespace.create(name)
        self._made.append(namespace)
        return namespace

    def _serve(self):
        targets = {(port.target, port.protocol) for service in services.SERVICES for port in service.ports}
        for pod in ("local-1", "remote-1", "remote-2"):
            self._listen(pod, targets)
        # Sockets on all addresses do not wait for an address.
        self._listen("intruder", [(port, protocol) for port, protocol in services.host_ports() if protocol != "sctp"])

    def serve_intruder_sctp(self):
        self._listen("intruder", [(port, protocol) for port, protocol in services.host_ports() if protocol == "sctp"])

    def _listen(self, pod, ports):
        for port in sorted({port for port, protocol in ports if protocol != "sctp"}):
            self.servers.add(self.pods[pod].namespace, f"{pod}:{port}", port)
        for port in sorted({port for port, protocol in ports if protocol == "sctp"} if sctp_works() else ()):
            for family in services.FAMILIES:
                self.servers.add_sctp(self.pods[pod].namespace, f"{pod}:{port}", services.pod_address(pod, family), port)


class Intruder:
    """The pod whose hostPorts are the Services' ports. ports: (port, protocol) of them; default: all."""

    def __init__(self, cluster, path, ports=None):
        self._cluster, self._path, self._ports = cluster, path, ports or services.host_ports()
        self._sandbox = cluster.pods["intruder"]
        self._serving = False

    @property
    def container_id(self):
        return self._sandbox.container_id

    def start(self):
        self._cluster.nodes["node"].attach(self._sandbox, self._ports, self._path)
        if not self._serving:
            self._cluster.serve_intruder_sctp()
            self._serving = True

    def stop(self):
        self._cluster.nodes["node"].detach(self._sandbox, self._ports, self._path)
