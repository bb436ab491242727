# SPDX-License-Identifier: GPL-2.0-or-later
"""What kube-proxy in ipvs mode, or kube-router, leaves on a node: dummy interface, ip_vs, ipsets, nat rules.

Rules, sets and their order are those of kube-proxy's pkg/proxy/ipvs/proxier.go (writeIptablesRules, acceptIPVSTraffic;
the same from 1.14 to 1.30) and of kube-router's pkg/controllers/proxy (ensureMasqueradeIptablesRule).
"""

from dataclasses import dataclass, field

from lib.cluster import NODE, NODE_CNI0, POD_CIDR

PROTOCOLS = ("tcp", "udp")


@dataclass
class Service:
    name: str
    address: dict  # family (4 or 6) -> ClusterIP
    port: int
    endpoint: dict  # family -> (address, port), or empty
    node_port: int = 0
    protocols: tuple = field(default=PROTOCOLS)


class KubeProxy:
    """Writes the Services into a node's namespace. backend: "legacy" or "nft", the iptables flavour used."""

    def __init__(self, node, backend, services):
        self._node = node
        self._backend = backend
        self._services = services

    def start_kube_proxy(self):
        self._dummy("kube-ipvs0", up=False)  # stays down; the addresses are local all the same
        self._virtual_servers()
        for family in (4, 6):
            self._node.run("ipset", "restore", stdin=self._ipsets(family))
            self._restore(family, self._nat_rules(family))
            # EnsureRule(Prepend): the jumps come first, in front of whatever the chains hold already.
            tables = _command(self._backend, family, "")
            for chain, comment, target in (("PREROUTING", "kubernetes service portals", "KUBE-SERVICES"),
                                           ("OUTPUT", "kubernetes service portals", "KUBE-SERVICES"),
                                           ("POSTROUTING", "kubernetes postrouting rules", "KUBE-POSTROUTING")):
                self._node.run(tables, "-w", "-t", "nat", "-I", chain, "1", "-m", "comment", "--comment", comment,
                               "-j", target)

    def start_kube_router(self):
        self._dummy("kube-dummy-if", up=True)
        self._virtual_servers()
        for family in (4, 6):
            self._restore(family, "*nat\n"
                          '-A POSTROUTING -m ipvs --ipvs --vdir ORIGINAL --vmethod MASQ -m comment --comment "" '
                          f"-j SNAT --to-source {NODE[family]} --random-fully\nCOMMIT\n")

    def start_ipvs_only(self):
        """Virtual servers and their addresses, no rules at all."""
        self._dummy("kube-ipvs0", up=False)
        self._virtual_servers()

    def _dummy(self, name, up):
        lines = [f"link add {name} type dummy"] + ([f"link set {name} up"] if up else [])
        for service in self._services:
            lines += [f"address add {service.address[4]}/32 dev {name}",
                      f"address add {service.address[6]}/128 dev {name} nodad"]
        self._node.ip("\n".join(lines) + "\n")

    def _virtual_servers(self):
        self._node.run("modprobe", "ip_vs_rr")
        self._node.sysctl("net/ipv4/vs/conntrack", 1)
        for timeout in ("udp_timeout", "udp_timeout_stream"):  # no entry may expire while a slow machine works
            self._node.sysctl(f"net/netfilter/nf_conntrack_{timeout}", 600)
        lines = []
        for service in self._services:
            for family in (4, 6):
                addresses = [(service.address[family], service.port)]
                if service.node_port:
                    addresses += [(NODE[family], service.node_port), (NODE_CNI0[family], service.node_port)]
                for protocol in service.protocols:
                    for address, port in addresses:
                        server = f"--{protocol}-service {host_port(address, port)}"
                        lines.append(f"-A {server} -s rr")
                        if service.endpoint:
                            lines.append(f"-a {server} -r {host_port(*service.endpoint[family])} -m -w 1")
        self._node.run("ipvsadm", "-R", stdin="\n".join(lines) + "\n")

    def _ipsets(self, family):
        prefix, inet = _prefix(family), "inet" if family == 4 else "inet6"
        lines = [f"create {prefix}{name} {kind} family {inet} hashsize 1024 maxelem 65536"
                 for name, kind in (("LOOP-BACK", "hash:ip,port,ip"), ("CLUSTER-IP", "hash:ip,port"),
                                    ("EXTERNAL-IP", "hash:ip,port"), ("EXTERNAL-IP-LOCAL", "hash:ip,port"),
                                    ("LOAD-BALANCER", "hash:ip,port"), ("LOAD-BALANCER-LOCAL", "hash:ip,port"),
                                    ("LOAD-BALANCER-FW", "hash:ip,port"),
                                    ("NODE-PORT-SCTP-HASH", "hash:ip,port"))]
        lines += [f"create {prefix}{name} bitmap:port range 0-65535"
                  for name in ("NODE-PORT-TCP", "NODE-PORT-UDP", "NODE-PORT-LOCAL-TCP", "NODE-PORT-LOCAL-UDP",
                               "HEALTH-CHECK-NODE-PORT")]
        for service in self._services:
            for protocol in service.protocols:
                lines.append(f"add {prefix}CLUSTER-IP {service.address[family]},{protocol}:{service.port}")
                if service.node_port:
                    lines.append(f"add {prefix}NODE-PORT-{protocol.upper()} {service.node_port}")
        return "\n".join(lines) + "\n"

    def _nat_rules(self, family):
        prefix = _prefix(family)
        comment = '-m comment --comment "Kubernetes %s"'
        cluster_ip = comment % "service cluster ip + port for masquerade purpose"
        lines = ["*nat"]
        lines += [f":{chain} - [0:0]" for chain in ("KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-NODE-PORT",
                                                    "KUBE-LOAD-BALANCER", "KUBE-MARK-MASQ")]
        lines += [
            f'-A KUBE-POSTROUTING {comment % "endpoints dst ip:port, source ip for solving hairpin purpose"} '
            f"-m set --match-set {prefix}LOOP-BACK dst,dst,src -j MASQUERADE"]
        if family == 4:
            lines.append("-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN")
        lines += [
            f'-A KUBE-SERVICES {comment % "service lb portal"} -m set --match-set {prefix}LOAD-BALANCER dst,dst '
            "-j KUBE-LOAD-BALANCER",
            f'-A KUBE-NODE-PORT -p tcp {comment % "nodeport TCP port for masquerade purpose"} '
            f"-m set --match-set {prefix}NODE-PORT-TCP dst -j KUBE-MARK-MASQ",
            f'-A KUBE-NODE-PORT -p udp {comment % "nodeport UDP port for masquerade purpose"} '
            f"-m set --match-set {prefix}NODE-PORT-UDP dst -j KUBE-MARK-MASQ",
            f"-A KUBE-SERVICES {cluster_ip} -m set --match-set {prefix}CLUSTER-IP dst,dst ! -s {POD_CIDR[family]} "
            "-j KUBE-MARK-MASQ",
            "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT",
            "-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ",
            f"-A KUBE-SERVICES -m set --match-set {prefix}CLUSTER-IP dst,dst -j ACCEPT",
            f"-A KUBE-SERVICES -m set --match-set {prefix}LOAD-BALANCER dst,dst -j ACCEPT",
            "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
            "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
            '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE '
            "--random-fully",
            "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
            "COMMIT"]
        return "\n".join(lines) + "\n"

    def _restore(self, family, rules):
        self._node.run(_command(self._backend, family, "-restore"), "-w", "--noflush", stdin=rules)


def host_port(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _prefix(family):
    return "KUBE-" if family == 4 else "KUBE-6-"


def _command(backend, family, suffix):
    return f"{'iptables' if family == 4 else 'ip6tables'}-{backend}{suffix}"
