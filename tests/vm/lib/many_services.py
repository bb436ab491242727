# SPDX-License-Identifier: GPL-2.0-or-later
"""What kube-proxy's iptables mode (1.27 and newer) writes for thousands of Services, and a sync of it."""

import base64
import hashlib

NODE_PORTS = ("-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this "
              "chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS")


def _chain(prefix, *names):
    digest = hashlib.sha256("/".join(names).encode()).digest()
    return f"KUBE-{prefix}-{base64.b32encode(digest).decode()[:16]}"


class Service:
    """One Service: its chains and rules. endpoints: "address:port"; node_port: 0 for none."""

    def __init__(self, name, cluster_ip, port, endpoints, node_port=0):
        self.chain = _chain("SVC", name)
        self._external = _chain("EXT", name)
        self._name, self._ip, self._port = name, cluster_ip, port
        self._endpoints, self._node_port = endpoints, node_port

    def chains(self):
        yield self.chain
        if self._node_port:
            yield self._external
        for endpoint in self._endpoints:
            yield self._endpoint_chain(endpoint)

    def dispatch(self):
        """Its rules in KUBE-SERVICES and KUBE-NODEPORTS."""
        yield (f'-A KUBE-SERVICES -d {self._ip}/32 -p tcp -m comment --comment "{self._name} cluster IP" -m tcp '
               f"--dport {self._port} -j {self.chain}")
        if self._node_port:
            yield (f'-A KUBE-NODEPORTS -p tcp -m comment --comment "{self._name}" -m tcp --dport {self._node_port} '
                   f"-j {self._external}")

    def jumps(self, note=""):
        """The rules of its own chain."""
        yield (f'-A {self.chain} ! -s 10.224.0.0/16 -d {self._ip}/32 -p tcp -m comment --comment "{self._name} cluster IP" '
               f"-m tcp --dport {self._port} -j KUBE-MARK-MASQ")
        for number, endpoint in enumerate(self._endpoints):
            left = len(self._endpoints) - number
            chance = f"-m statistic --mode random --probability {1 / left:.11f} " if left > 1 else ""
            yield (f'-A {self.chain} -m comment --comment "{self._name} -> {endpoint}{note}" {chance}'
                   f"-j {self._endpoint_chain(endpoint)}")

    def others(self):
        """The rules of all its other chains."""
        if self._node_port:
            yield (f'-A {self._external} -m comment --comment "masquerade traffic for {self._name} external destinations" '
                   "-j KUBE-MARK-MASQ")
            yield f"-A {self._external} -j {self.chain}"
        for endpoint in self._endpoints:
            chain = self._endpoint_chain(endpoint)
            yield f'-A {chain} -s {endpoint.split(":")[0]}/32 -m comment --comment "{self._name}" -j KUBE-MARK-MASQ'
            yield (f'-A {chain} -p tcp -m comment --comment "{self._name}" -m tcp -j DNAT --to-destination {endpoint}')

    def _endpoint_chain(self, endpoint):
        return _chain("SEP", self._name, endpoint)


def many(count, endpoints):
    """So many Services with so many endpoints each; nobody answers there."""
    for number in range(count):
        targets = [f"10.244.{at // 250 % 250}.{at % 250 + 1}:8080"
                   for at in range(number * endpoints, (number + 1) * endpoints)]
        yield Service(f"ns{number % 50}/svc-{number}:http", f"10.96.{number // 250}.{number % 250 + 1}", 80, targets)


def whole(services):
    """All of it, for iptables-restore."""
    lines = ["*nat", ":KUBE-SERVICES - [0:0]", ":KUBE-NODEPORTS - [0:0]", ":KUBE-MARK-MASQ - [0:0]",
             ":KUBE-POSTROUTING - [0:0]"]
    lines += [f":{chain} - [0:0]" for service in services for chain in service.chains()]
    for hook in ("PREROUTING", "OUTPUT"):
        lines.append(f'-A {hook} -m comment --comment "kubernetes service portals" -j KUBE-SERVICES')
    lines += ['-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
              "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
              "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
              "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
              '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE '
              "--random-fully"]
    lines += [rule for service in services for rule in service.dispatch()]
    lines.append(NODE_PORTS)
    for service in services:
        lines += [*service.jumps(), *service.others()]
    return "\n".join([*lines, "COMMIT"]) + "\n"


class Sync:
    """A sync in which one Service changed: KUBE-SERVICES and KUBE-NODEPORTS whole, and that Service's chain
    (MinimizeIPTablesRestore), for iptables-restore --noflush."""

    def __init__(self, services, changed):
        dispatch = [rule for service in services for rule in service.dispatch()]
        self._begin = "\n".join(["*nat", ":KUBE-SERVICES - [0:0]", ":KUBE-NODEPORTS - [0:0]", f":{changed.chain} - [0:0]",
                                 *dispatch, NODE_PORTS]) + "\n"
        self._changed = changed

    def text(self, number):
        return self._begin + "\n".join([*self._changed.jumps(f" {number}"), "COMMIT"]) + "\n"
