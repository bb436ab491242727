# SPDX-License-Identifier: GPL-2.0-or-later
"""The versions of Kubernetes whose kube-proxy is tried, and what differs between them besides the rules."""

from dataclasses import dataclass


@dataclass
class Version:
    """modes: of kube-proxy that are tried. cases: by name, empty: all of tier/cases.py. apiserver: the version it runs
    with; empty: its own. families: those it serves. endpoints: it reads Endpoints instead of discovery.k8s.io/v1."""

    modes: tuple
    cases: tuple = ()
    apiserver: str = ""
    families: tuple = (4, 6)
    endpoints: bool = False
    feature_gates: tuple = ()  # to set, pairs


def _older(**what):
    """One that is there for the format of its rules only."""
    return Version(("iptables",), ("after",), apiserver="1.28", **what)


# Up to 1.21 kube-proxy reads EndpointSlices, and so dual stack, through discovery.k8s.io/v1beta1 only, which no
# apiserver since 1.25 has; Endpoints are of one family.
NO_SLICES = (("EndpointSliceProxying", False),)
VERSIONS = {
    "1.16": _older(families=(4,), endpoints=True),
    "1.20": _older(families=(4,), endpoints=True, feature_gates=NO_SLICES),
    "1.21": _older(families=(6,), endpoints=True, feature_gates=(*NO_SLICES, ("IPv6DualStack", False))),
    "1.23": _older(),
    "1.24": _older(),
    "1.28": Version(("iptables", "ipvs")),
    "1.37": Version(("iptables", "ipvs", "nftables")),
}


def minor(version):
    """21 of "1.21"."""
    return int(version.split(".")[1])
