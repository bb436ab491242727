// SPDX-License-Identifier: GPL-2.0-or-later
// kube-proxy's ipsets (pkg/proxy/ipvs/ipset.go): what kind of Service an address of its ipvs mode is.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/address.hpp"
#include "state/ipset.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// Prefix of the names of kube-proxy's ipsets. Others use it as well: kube-router's network policies, which swap theirs.
constexpr std::string_view kube_set_prefix = "KUBE-";

// A destination, as ip_vs serves it.
struct SetQuery {
    Endpoint address;
    Protocol protocol = Protocol::tcp;
};

// What the sets of this namespace are asked about.
struct KubeSetQuestion {
    std::vector<SetQuery> served;          // which set has them
    std::vector<Endpoint> hostport_ports;  // TCP ports that hostPorts take, with any address of the family: could one
                                           // be a health check's?
    [[nodiscard]] bool empty() const { return served.empty() && hostport_ports.empty(); }
};

// kube-proxy's sets that exist, each with those members that were asked about and matter: of the sets that tell a
// Service's kind, the first that has it (in that order of kind_of_service).
// No set is listed: see KernelSets. Empty if ip_set is not present: asking would load it. Error: EPERM, truncated
// answers.
Result<std::vector<IpSet>> read_kube_sets(const KubeSetQuestion& question);

struct KindInSets {
    ServiceKind kind = ServiceKind::cluster_ip;
    bool external_local = false;  // externalTrafficPolicy Local
};
// The kind of the Service at this address; nothing: no set has it.
std::optional<KindInSets> kind_of_service(const std::vector<IpSet>& sets, const SetQuery& service);

// The node ports on which kube-proxy itself answers a balancer's health checks. Of sets that were read from the kernel
// only those that hostPorts take.
std::vector<std::uint16_t> health_check_ports(const std::vector<IpSet>& sets, Family family);

// What a member of one of the sets that tell a Service's kind is there for.
struct SetService {
    std::string_view set;  // its name, as long as the sets live
    Family family = Family::ipv4;
    std::optional<Address> ip;  // absent: a NodePort, on whichever address of the node
    std::uint16_t port = 0;
    Protocol protocol = Protocol::tcp;
};

// The Services that whole sets tell of (those of a dump); each has a virtual server.
std::vector<SetService> services_of_sets(const std::vector<IpSet>& sets);

}  // namespace hptrace
