# SPDX-License-Identifier: GPL-2.0-or-later
"""The cluster's objects as data: nodes, pods, Services; and what they look like in the API.

    app     10.224.0.2 ─┐                                 ┌─ remote-1 10.224.1.2
    local-1 10.224.0.3 ─ cni0 [node] .0.2 ─ lan ─ .0.1 [node-1] cni0
    intruder 10.224.0.4 ┘                    │            └─ remote-2 10.224.1.3
    (hostPorts)                  outside 192.168.0.50
"""

from dataclasses import dataclass, field

NODE = {4: "192.168.0.2", 6: "fd00:192:168::2"}
NODE_1 = {4: "192.168.0.1", 6: "fd00:192:168::1"}
OUTSIDE = {4: "192.168.0.50", 6: "fd00:192:168::50"}
SECOND_NODE_ADDRESS = {4: "192.168.0.22", 6: "fd00:192:168::22"}  # an external IP that is local to the node
POD_CIDR = {4: "10.224.0.0/16", 6: "fd00:10:224::/48"}
SERVICE_CIDR = {4: "10.96.0.0/16", 6: "fd00:10:96::/112"}
EXTERNAL_CIDR = {4: "198.51.100.0/24", 6: "2001:db8:51::/64"}
NODE_CIDR = {"node": {4: "10.224.0.0/24", 6: "fd00:10:224::/64"},
             "node-1": {4: "10.224.1.0/24", 6: "fd00:10:224:1::/64"}}
# In the order host-local hands out addresses: .2, .3 and so on.
PODS = {"node": ("app", "local-1", "intruder"), "node-1": ("remote-1", "remote-2")}
FAMILIES = (4, 6)
API_PORT = 16443
HOSTPORT_ONLY = 9100  # a hostPort that is no Service's


def pod_address(name, family):
    for node, pods in PODS.items():
        if name in pods:
            prefix = NODE_CIDR[node][family].split("/")[0]
            return (prefix.removesuffix("0") if family == 4 else prefix) + str(pods.index(name) + 2)
    raise KeyError(name)


def node_of(pod):
    return next(node for node, pods in PODS.items() if pod in pods)


@dataclass
class Port:
    port: int
    target: int = 0
    protocol: str = "tcp"
    name: str = ""
    node_port: int = 0

    def __post_init__(self):
        self.target = self.target or self.port


@dataclass
class Service:
    """number: the last part of its addresses. spec: what else the Service's spec holds."""

    name: str
    number: int
    ports: tuple
    endpoints: tuple = ()  # pods
    terminating: tuple = ()
    kind: str = "ClusterIP"
    families: tuple = FAMILIES
    external: dict = field(default_factory=dict)  # family -> external IP
    balancer: dict = field(default_factory=dict)  # family -> status IP of the load balancer
    spec: dict = field(default_factory=dict)
    headless: bool = False

    def address(self, family):
        return cluster_ip(self.number)[family]

    def destinations(self):
        """(kind, family, address, port object, destination port) of everything it can be reached by on the node."""
        for family in self.families:
            for port in self.ports:
                if not self.headless:
                    yield "ClusterIP", family, self.address(family), port, port.port
                if port.node_port:
                    yield "NodePort", family, NODE[family], port, port.node_port
                if family in self.external:
                    yield "ExternalIP", family, self.external[family], port, port.port
                if family in self.balancer:
                    yield "LoadBalancer", family, self.balancer[family], port, port.port


def cluster_ip(number):
    high, low = divmod(number, 256)
    return {4: f"10.96.{high}.{low}", 6: f"fd00:10:96::{number:x}"}


def external_ip(number):
    return {4: f"198.51.100.{number}", 6: f"2001:db8:51::{number:x}"}


LOCAL_POLICY = {"externalTrafficPolicy": "Local"}
BOTH = ("local-1", "remote-1")

SERVICES = (
    Service("mysql-a", 10, (Port(3306, name="mysql"),), ("remote-1",)),
    Service("web", 11, (Port(80, 8080, name="http"), Port(9090, 9091, name="metrics")), ("local-1", "remote-1", "remote-2")),
    Service("nodeport", 12, (Port(3307, node_port=30307),), ("remote-1",), kind="NodePort"),
    Service("nodeport-local", 13, (Port(3308, node_port=30308),), BOTH, kind="NodePort", spec=LOCAL_POLICY),
    Service("nodeport-local-elsewhere", 14, (Port(3309, node_port=30309),), ("remote-1",), kind="NodePort", spec=LOCAL_POLICY),
    Service("balancer", 15, (Port(443, 8443, node_port=30443),), BOTH, kind="LoadBalancer", balancer=external_ip(15)),
    Service("balancer-ranges", 16, (Port(444, node_port=30444),), ("remote-1",), kind="LoadBalancer",
            balancer=external_ip(16), spec={"loadBalancerSourceRanges": list(POD_CIDR.values())}),
    Service("balancer-local", 17, (Port(445, node_port=30445),), BOTH, kind="LoadBalancer", balancer=external_ip(17),
            spec=LOCAL_POLICY | {"healthCheckNodePort": 32045}),
    Service("balancer-local-elsewhere", 18, (Port(446, node_port=30446),), ("remote-1",), kind="LoadBalancer",
            balancer=external_ip(18), spec=LOCAL_POLICY | {"healthCheckNodePort": 32046}),
    Service("external", 19, (Port(5432),), ("remote-1",), external=external_ip(19)),
    Service("external-on-node", 20, (Port(5433),), ("remote-1",), external=SECOND_NODE_ADDRESS),
    Service("internal-local", 21, (Port(6379),), BOTH, spec={"internalTrafficPolicy": "Local"}),
    Service("internal-local-elsewhere", 22, (Port(6380),), ("remote-1",), spec={"internalTrafficPolicy": "Local"}),
    Service("affinity", 23, (Port(8081, node_port=30081),), BOTH, kind="NodePort",
            spec={"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}}),
    Service("headless", 24, (Port(5672),), BOTH, headless=True),
    Service("no-endpoints", 25, (Port(8082, node_port=30082),), kind="NodePort"),
    Service("dns", 26, (Port(53, name="dns", protocol="udp"), Port(53, name="dns-tcp")), BOTH),
    Service("syslog", 27, (Port(514, protocol="udp", node_port=30514),), ("remote-1",), kind="NodePort"),
    Service("diameter", 28, (Port(3868, protocol="sctp", node_port=30868),), ("remote-1",), kind="NodePort"),
    Service("v4-only", 29, (Port(8083),), ("remote-1",), families=(4,)),
    Service("v6-only", 30, (Port(8084),), ("remote-1",), families=(6,)),
    Service("terminating", 31, (Port(8085),), ("remote-1",), terminating=("remote-2",)),
)
# Made by the apiserver itself; its endpoint is the address it advertises.
KUBERNETES = Service("kubernetes", 1, (Port(443, API_PORT, name="https"),), families=(4,))


def host_ports():
    """(port, protocol) of everything the intruder takes: every port a Service has on the node, and one more."""
    taken = {(HOSTPORT_ONLY, "tcp"), (HOSTPORT_ONLY, "udp")}
    for service in SERVICES:
        taken |= {(port, port_object.protocol) for _, _, _, port_object, port in service.destinations()}
    return sorted(taken)


def service_object(service):
    spec = {"type": service.kind, "selector": None, "ipFamilies": [f"IPv{family}" for family in service.families],
            "ipFamilyPolicy": "RequireDualStack" if len(service.families) == 2 else "SingleStack",
            "clusterIPs": ["None"] if service.headless else [service.address(family) for family in service.families],
            "ports": [_without_empty({"name": port.name, "protocol": port.protocol.upper(), "port": port.port,
                                      "targetPort": port.target, "nodePort": port.node_port})
                      for port in service.ports]}
    spec["clusterIP"] = spec["clusterIPs"][0]
    if service.external:
        spec["externalIPs"] = list(service.external.values())
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": service.name, "namespace": "default"},
            "spec": spec | service.spec}


def balancer_status(service):
    return {"loadBalancer": {"ingress": [{"ip": address} for address in service.balancer.values()]}}


def endpoint_slices(service):
    for family in service.families:
        yield {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": f"IPv{family}",
               "metadata": {"name": f"{service.name}-ipv{family}", "namespace": "default",
                            "labels": {"kubernetes.io/service-name": service.name}},
               "ports": [{"name": port.name, "protocol": port.protocol.upper(), "port": port.target}
                         for port in service.ports],
               "endpoints": [_endpoint(pod, family, pod in service.terminating)
                             for pod in service.endpoints + service.terminating]}


def endpoints_object(service, family):
    """The Endpoints of it: one family only. What is terminating is just not ready there."""
    def addresses(pods):
        return [{"ip": pod_address(pod, family), "nodeName": node_of(pod),
                 "targetRef": {"kind": "Pod", "namespace": "default", "name": pod}} for pod in pods]

    subset = _without_empty({"addresses": addresses(service.endpoints), "notReadyAddresses": addresses(service.terminating)})
    ports = [_without_empty({"name": port.name, "protocol": port.protocol.upper(), "port": port.target})
             for port in service.ports]
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": service.name, "namespace": "default"},
            "subsets": [subset | {"ports": ports}] if subset and family in service.families else []}


def unready_slices(count=1001):
    """Of a Service that has others: endpoints that are not ready, which cost no rules. So many that kube-proxy's iptables
    mode takes it for a large cluster. A slice holds up to 1000."""
    service = next(service for service in SERVICES if service.name == "terminating")
    for whole in endpoint_slices(service):
        prefix = {"IPv4": "10.224.{}.{}", "IPv6": "fd00:10:224:{}::{:x}"}[whole["addressType"]]
        addresses = [prefix.format(4 + number // 250, 2 + number % 250) for number in range(count)]
        for part, start in enumerate(range(0, count, 1000)):
            yield whole | {"metadata": whole["metadata"] | {"name": f"{whole['metadata']['name']}-unready-{part}"},
                           "endpoints": [{"addresses": [address], "nodeName": "node-1", "conditions": {"ready": False}}
                                         for address in addresses[start:start + 1000]]}


def _endpoint(pod, family, terminating):
    return {"addresses": [pod_address(pod, family)], "nodeName": node_of(pod),
            "conditions": {"ready": not terminating, "serving": True, "terminating": terminating},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": pod}}


def node_object(name, addresses):
    return {"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {"podCIDR": NODE_CIDR[name][4], "podCIDRs": list(NODE_CIDR[name].values())},
            "status": {"addresses": [{"type": "InternalIP", "address": address} for address in addresses.values()]
                       + [{"type": "Hostname", "address": name}]}}


def many(count):
    """Services by the thousand, objects only: two endpoints each that nobody serves; every tenth has a NodePort."""
    for index in range(count):
        number = 256 + index
        yield Service(f"many-{index:05}", number, (Port(8000 + index % 1000, node_port=31000 + index // 10
                                                         if index % 10 == 0 else 0),),
                      ("remote-1", "remote-2"), kind="NodePort" if index % 10 == 0 else "ClusterIP")


def _without_empty(values):
    return {key: value for key, value in values.items() if value}
