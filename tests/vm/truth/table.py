# SPDX-License-Identifier: GPL-2.0-or-later
"""The truth table as data: who gets the first packet where a hostPort has the number of a Service's port.

S: the Service. H: the hostPort. L: whose nat hook was registered last. n: the hostPort's rule cannot match, as the
address is not local. *: the hostPort gets what the Service's rules let through (see falls_through). Where the node's own
packets fare differently from forwarded ones, theirs comes second."""

from dataclasses import dataclass

from tier import services, traffic

COLUMNS = ("A", "A0", "B", "C", "D")
ROWS = ("ClusterIP", "NodePort", "local", "not local")  # destinations
NOT_LOCAL = ("ClusterIP", "not local")  # but in ipvs mode

# kube-proxy's mode -> destination -> column
TABLE = {
    "iptables": {
        "ClusterIP":       {"A": "n",  "A0": "n", "B": "n",  "C": "n",  "D": "L* S"},
        "NodePort":        {"A": "S*", "A0": "H", "B": "L*", "C": "L*", "D": "L*"},
        "local":           {"A": "S*", "A0": "H", "B": "L*", "C": "L*", "D": "L*"},  # external or balancer IP
        "not local":       {"A": "n",  "A0": "n", "B": "n",  "C": "n",  "D": "L* S"},
    },
    "ipvs": {
        "ClusterIP":       {"A": "S",  "A0": "H", "B": "H",  "C": "H",  "D": "H"},
        "NodePort":        {"A": "H",  "A0": "H", "B": "H",  "C": "H",  "D": "H"},
        "local":           {"A": "S",  "A0": "H", "B": "H",  "C": "H",  "D": "H"},
    },
    "kube-router": dict.fromkeys(("ClusterIP", "NodePort", "local"), dict.fromkeys(COLUMNS, "H")),
    "nftables": {
        "ClusterIP":       {"A": "n",  "B": "n",  "C": "n",  "D": "L* S"},
        "NodePort":        {"A": "L*", "B": "L*", "C": "L*", "D": "L*"},
        "local":           {"A": "L*", "B": "L*", "C": "L*", "D": "L*"},
        "not local":       {"A": "n",  "B": "n",  "C": "n",  "D": "L* S"},
    },
}


@dataclass
class Expected:
    """answer: "hostport", "service" or "nobody". reasons: codes that are true if the hostPort takes it from a Service."""

    answer: str
    reasons: tuple = ()


def row_of(mode, attempt):
    """ipvs binds every address of a Service to its device: all are local."""
    if attempt.kind in ("ClusterIP", "NodePort"):
        return attempt.kind
    on_node = attempt.address in services.SECOND_NODE_ADDRESS.values() or attempt.address in LOCAL_BALANCER.values()
    return "local" if on_node or mode in ("ipvs", "kube-router") else "not local"


# A balancer's address that the node itself has, as with keepalived: that of a Service with loadBalancerSourceRanges.
RANGES = next(service for service in services.SERVICES if service.name == "balancer-ranges")
LOCAL_BALANCER = RANGES.balancer


def falls_through(mode, attempt):
    """The reason code of what the Service's own rules do not rewrite, though they are reached; empty: they do."""
    service = attempt.service
    if not service.endpoints:
        return "no_endpoints"
    if service.spec.get("externalTrafficPolicy") == "Local" and "local-1" not in service.endpoints \
            and attempt.kind != "ClusterIP" and attempt.client == "outside":
        return "etp_local"
    if service.spec.get("loadBalancerSourceRanges") and attempt.kind == "LoadBalancer" and attempt.client != "pod" \
            and mode == "iptables":
        return "lb_source_ranges"
    return ""


def expected(setting, attempt):
    """setting: mode, column, hostport_last (whose hook was registered last)."""
    mode, column = setting.mode, setting.column
    if not attempt.service:
        return Expected("hostport")
    if mode == "nftables" and attempt.service is RANGES and attempt.kind == "LoadBalancer" and attempt.client != "pod":
        return Expected("nobody")  # dropped before any DNAT
    row = row_of(mode, attempt)
    cells = TABLE[mode][row][column].split()
    cell = cells[-1 if attempt.client == "node" else 0]
    letter, fallthrough = cell[0], cell.endswith("*")
    by_itself = Expected(traffic.without_hostport(attempt, "ipvs" if mode == "kube-router" else mode, "1.37"))
    if letter == "L":
        letter = "H" if setting.hostport_last else "S"
    if letter == "H":
        return Expected("hostport", reasons(setting, row, attempt))
    if letter == "S" and fallthrough and (reason := falls_through(mode, attempt)):
        return Expected("hostport", (reason, *(("no_local_check",) if row in NOT_LOCAL else ())))
    return by_itself


def reasons(setting, row, attempt):
    """Why a hostPort wins where it does not merely get what falls through."""
    mode, column = setting.mode, setting.column
    if mode in ("ipvs", "kube-router"):
        if mode == "kube-router":
            return ("no_accept",)
        if row == "NodePort":
            return ("nodeport_ipvs",)
        return ("jump_before_kube_services",) if column == "A0" else ("other_backend",)
    if row in NOT_LOCAL:
        return ("no_local_check",)
    fallthrough = falls_through(mode, attempt)
    return ("jump_before_kube_services" if column == "A0" else "hook_order", *((fallthrough,) if fallthrough else ()))
