// SPDX-License-Identifier: GPL-2.0-or-later
#include "judge/match.hpp"

#include <algorithm>
#include <string>

#include "judge/judge.hpp"

namespace hptrace {

namespace {

bool stands_first(const JumpOrder& order) {
    return order.hostport >= 0 && order.kube_services >= 0 && order.hostport < order.kube_services;
}

const NatTable* find_table(const NodeState& state, Backend backend, Family family) {
    const auto found = std::ranges::find_if(state.nat_tables, [backend, family](const NatTable& table) {
        return table.backend == backend && table.family == family;
    });
    return found == state.nat_tables.end() ? nullptr : &*found;
}

ReasonCode ipvs_reason(const Service& service, const HostPortRule& rule, const NodeState& state) {
    const auto accept = accept_backend(state, service.family, rule.backend);
    if (!accept) {  // whatever the kind, which is a guess without kube-proxy's sets
        return ReasonCode::no_accept;
    }
    if (service.kind == ServiceKind::node_port) {
        return ReasonCode::nodeport_ipvs;
    }
    if (*accept != rule.backend) {
        return ReasonCode::other_backend;
    }
    return jumps_first(rule, state) ? ReasonCode::jump_before_kube_services : ReasonCode::not_served_here;
}

// A client that kube-proxy sends to every endpoint whatever the externalTrafficPolicy: the node, or a pod on it.
bool is_inside(const Address& client, const NodeState& state) {
    return state.find_local(client) != nullptr || state.find_sandbox(client) != nullptr;
}

bool is_allowed(const Address& client, const Service& service) {
    return std::ranges::any_of(service.allowed_sources,
                               [&client](const Prefix& range) { return range.contains(client); });
}

// Iptables and nftables mode.
ReasonCode rules_reason(const Service& service, const HostPortRule& rule, const std::optional<Address>& client,
                        const NodeState& state) {
    if (service.endpoints.empty()) {
        return ReasonCode::no_endpoints;
    }
    if (same_table(service, rule) && jumps_first(rule, state)) {
        return ReasonCode::jump_before_kube_services;
    }
    if (lets_outside_pass(service) && !(client && is_inside(*client, state))) {
        return ReasonCode::etp_local;
    }
    if (lets_strangers_pass(service) && !(client && is_allowed(*client, service))) {
        return ReasonCode::lb_source_ranges;
    }
    return same_table(service, rule) ? ReasonCode::not_served_here : ReasonCode::hook_order;
}

// The sandbox that has the rule's address instead of the rule's own; null: none. Two networks can have the same
// address.
const Sandbox* other_owner(const HostPortRule& rule, const NodeState& state) {
    const auto* const owner = state.find_sandbox(rule.target.ip);
    const bool is_other = owner != nullptr && !owner->container_id.empty() &&
                          owner->container_id != rule.container_id &&
                          (owner->network.empty() || rule.network.empty() || owner->network == rule.network);
    return is_other ? owner : nullptr;
}

bool has_long_had_it(const Sandbox& owner, const NodeState& state) {
    return owner.since_ns > 0 && state.real_ns - owner.since_ns > static_cast<std::int64_t>(longest_set_up_ns);
}

bool is_long_gone(const std::string& container_id, const NodeState& state, std::uint64_t boot_ns) {
    const auto gone = state.gone_sandboxes.find(container_id);
    return gone != state.gone_sandboxes.end() && std::max(boot_ns, state.boot_ns) > gone->second + longest_set_up_ns;
}

}  // namespace

bool matches_somewhere(const NodeState& state, const HostPortRule& rule, const Endpoint& destination,
                       Protocol protocol) {
    return hostport_matches(state, rule, destination, protocol, false) ||
           hostport_matches(state, rule, destination, protocol, true);
}

Endpoint target_of(const HostPortRule& rule, std::uint16_t port) {
    return {rule.target.ip, rule.target.port != 0 ? rule.target.port : port};
}

bool has_endpoint(const Service& service, const Endpoint& endpoint) {
    return std::ranges::binary_search(service.endpoints, endpoint);
}

bool is_service_proxy(const HostPortRule& rule, const Service& service, const NodeState& state) {
    const auto* sandbox = rule.container_id.empty() ? nullptr : state.find_sandbox(rule.container_id);
    constexpr std::string_view prefix = "svclb-";
    if (sandbox == nullptr || sandbox->named_by_itself || !sandbox->pod_name.starts_with(prefix)) {
        return false;
    }
    if (!service.name) {
        // ip_vs holds no names. Only an address given out by ServiceLB itself can be the pod's own Service.
        return service.kind == ServiceKind::load_balancer && sandbox->pod_namespace == "kube-system";
    }
    if (sandbox->pod_namespace != "kube-system" && sandbox->pod_namespace != service.name->ns) {
        return false;
    }
    const auto rest = std::string_view(sandbox->pod_name).substr(prefix.size());
    if (!rest.starts_with(service.name->name + "-")) {
        return false;
    }
    // "<uid>-<random>", or "<random>" of older versions: more dashes belong to a longer Service name.
    return std::ranges::count(rest.substr(service.name->name.size() + 1), '-') <= 1;
}

bool is_service_device(const std::string& device) {
    return device == "kube-ipvs0" || device == "kube-dummy-if" || device == "nodelocaldns";
}

bool jumps_first(const HostPortRule& rule, const NodeState& state) {
    const auto* table = find_table(state, rule.backend, rule.family);
    return table != nullptr && (stands_first(table->prerouting) || stands_first(table->output));
}

std::optional<Backend> accept_backend(const NodeState& state, Family family, Backend preferred) {
    std::optional<Backend> found;
    for (const auto& table : state.nat_tables) {
        if (table.family == family && table.ipvs_accept && (!found || table.backend == preferred)) {
            found = table.backend;
        }
    }
    return found;
}

bool same_table(const Service& service, const HostPortRule& rule) {
    return service.backend == rule.backend && rule.backend != Backend::nftables;
}

bool lets_outside_pass(const Service& service) {
    return service.proxy != ServiceProxy::ipvs && service.external_local && !service.handles_outside;
}

bool lets_strangers_pass(const Service& service) {
    return !service.allowed_sources.empty();
}

ReasonCode hijack_reason(const Service& service, const HostPortRule& rule, const std::optional<Address>& destination,
                         const std::optional<Address>& client, const NodeState& state) {
    if (!rule.local_only && destination && state.find_local(*destination) == nullptr) {
        return ReasonCode::no_local_check;
    }
    if (service.kind == ServiceKind::health_check_node_port) {
        return ReasonCode::not_served_here;
    }
    return service.proxy == ServiceProxy::ipvs ? ipvs_reason(service, rule, state)
                                               : rules_reason(service, rule, client, state);
}

LeftOver left_over(const HostPortRule& rule, const NodeState& state, std::uint64_t boot_ns) {
    if (rule.producer != Producer::portmap || rule.container_id.empty()) {
        return LeftOver::no;
    }
    const auto* sandbox = state.find_sandbox(rule.container_id);
    if (sandbox != nullptr && std::ranges::find(sandbox->ips, rule.target.ip) != sandbox->ips.end()) {
        return LeftOver::no;
    }
    const auto* const owner = other_owner(rule, state);
    if (sandbox != nullptr) {  // it is there, whoever else has been given its address
        return owner != nullptr ? LeftOver::perhaps : LeftOver::no;
    }
    if ((owner != nullptr && has_long_had_it(*owner, state)) || is_long_gone(rule.container_id, state, boot_ns)) {
        return LeftOver::yes;
    }
    const bool missed = state.sandboxes_complete && state.knows_containers();
    return owner != nullptr || missed ? LeftOver::perhaps : LeftOver::no;
}

}  // namespace hptrace
