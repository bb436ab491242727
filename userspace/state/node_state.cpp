// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/node_state.hpp"

#include <algorithm>
#include <functional>
#include <tuple>
#include <utility>

namespace hptrace {

namespace {

// Services on "any local address" are indexed under the unspecified address of their family.
Endpoint index_key(const Service& service) {
    return {.ip = service.ip.value_or(Address{.family = service.family}), .port = service.port};
}

bool is_host_prefix(const Prefix& prefix) {
    return prefix.length == prefix.address.size() * 8;
}

}  // namespace

std::string_view to_string(Backend backend) {
    switch (backend) {
        case Backend::iptables_legacy:
            return "iptables-legacy";
        case Backend::iptables_nft:
            return "iptables-nft";
        case Backend::nftables:
            return "nftables";
    }
    return "?";
}

std::string_view to_string(ServiceKind kind) {
    switch (kind) {
        case ServiceKind::cluster_ip:
            return "ClusterIP";
        case ServiceKind::external_ip:
            return "ExternalIP";
        case ServiceKind::load_balancer:
            return "LoadBalancer";
        case ServiceKind::node_port:
            return "NodePort";
        case ServiceKind::health_check_node_port:
            return "HealthCheckNodePort";
    }
    return "?";
}

std::string_view to_string(Producer producer) {
    switch (producer) {
        case Producer::portmap:
            return "portmap";
        case Producer::crio:
            return "crio";
        case Producer::docker:
            return "docker";
        case Producer::netavark:
            return "netavark";
        case Producer::unknown:
            return "unknown";
    }
    return "?";
}

std::string_view to_string(ProxyMode mode) {
    switch (mode) {
        case ProxyMode::none:
            return "no kube-proxy rules";
        case ProxyMode::iptables:
            return "kube-proxy iptables";
        case ProxyMode::ipvs:
            return "kube-proxy ipvs";
        case ProxyMode::nftables:
            return "kube-proxy nftables";
        case ProxyMode::other_ipvs:
            return "ipvs without kube-proxy rules";
    }
    return "?";
}

bool decides(SourceRole role) {
    switch (role) {
        case SourceRole::everything:
        case SourceRole::rules:
        case SourceRole::services:
        case SourceRole::addresses:
            return true;
        case SourceRole::kinds:
        case SourceRole::owners:
        case SourceRole::names:
            break;
    }
    return false;
}

SourceRow source_row(std::string_view name) {
    const auto* const found = std::ranges::find(source_rows, name, &SourceRow::name);
    return found == source_rows.end() ? SourceRow{name, SourceRole::everything, std::nullopt} : *found;
}

std::size_t NodeState::KeyHash::operator()(const Key& key) const noexcept {
    return std::hash<Endpoint>{}(key.destination) * 31U + static_cast<std::size_t>(key.protocol);
}

void NodeState::index() {
    for (auto& service : services) {
        std::ranges::sort(service.endpoints);
    }
    std::ranges::sort(hostports, {},
                      [](const HostPortRule& rule) { return std::tuple(rule.backend, rule.family, rule.order); });
    by_destination_.clear();
    for (std::size_t i = 0; i < services.size(); ++i) {
        by_destination_.try_emplace({.destination = index_key(services[i]), .protocol = services[i].protocol}, i);
    }
    service_addresses_.clear();
    for (const auto& service : services) {
        if (service.ip) {
            service_addresses_.insert(*service.ip);
        }
    }
    hostports_by_target_.clear();
    for (std::size_t i = 0; i < hostports.size(); ++i) {
        hostports_by_target_[hostports[i].target.ip].push_back(i);
    }
    index_local_addresses();
    sandbox_by_id_.clear();
    sandbox_by_ip_.clear();
    for (std::size_t i = 0; i < sandboxes.size(); ++i) {
        if (!sandboxes[i].container_id.empty()) {
            sandbox_by_id_.insert_or_assign(sandboxes[i].container_id, i);
        }
        for (const auto& ip : sandboxes[i].ips) {
            sandbox_by_ip_.insert_or_assign(ip, i);
        }
    }
}

void NodeState::index_local_addresses() {
    local_by_address_.clear();
    std::map<std::uint8_t, LocalNetworks, std::greater<>> networks;  // by length
    for (std::size_t i = 0; i < local_addresses.size(); ++i) {
        const auto& prefix = local_addresses[i].prefix;
        if (is_host_prefix(prefix)) {
            local_by_address_.try_emplace(prefix.address, i);
        } else {
            auto& same_length = networks[prefix.length];
            same_length.length = prefix.length;
            same_length.places.try_emplace(prefix.masked(), i);
        }
    }
    local_networks_.clear();
    for (auto& [length, same_length] : networks) {
        local_networks_.push_back(std::move(same_length));
    }
}

const Service* NodeState::find_service(const Endpoint& destination, Protocol protocol) const {
    const auto exact = by_destination_.find({.destination = destination, .protocol = protocol});
    if (exact != by_destination_.end() && services[exact->second].ip) {
        return &services[exact->second];
    }
    const Endpoint any_local{.ip = Address{.family = destination.ip.family}, .port = destination.port};
    const auto node_port = by_destination_.find({.destination = any_local, .protocol = protocol});
    if (node_port == by_destination_.end() || services[node_port->second].ip) {
        return nullptr;
    }
    const auto& service = services[node_port->second];
    if (destination.ip.is_loopback() && !service.on_loopback) {
        return nullptr;
    }
    return find_local(destination.ip) == nullptr ? nullptr : &service;
}

const LocalAddress* NodeState::find_local(const Address& address) const {
    if (const auto host = local_by_address_.find(address); host != local_by_address_.end()) {
        return &local_addresses[host->second];
    }
    for (const auto& [length, places] : local_networks_) {
        if (length > address.size() * 8) {
            continue;  // the other family's
        }
        if (const auto found = places.find(Prefix{address, length}.masked()); found != places.end()) {
            return &local_addresses[found->second];
        }
    }
    return nullptr;
}

const Sandbox* NodeState::find_sandbox(std::string_view container_id) const {
    const auto found = sandbox_by_id_.find(container_id);
    return found == sandbox_by_id_.end() ? nullptr : &sandboxes[found->second];
}

const Sandbox* NodeState::find_sandbox(const Address& ip) const {
    const auto found = sandbox_by_ip_.find(ip);
    return found == sandbox_by_ip_.end() ? nullptr : &sandboxes[found->second];
}

const std::vector<std::size_t>& NodeState::hostports_to(const Address& target) const {
    static const std::vector<std::size_t> none;
    const auto found = hostports_by_target_.find(target);
    return found == hostports_by_target_.end() ? none : found->second;
}

bool NodeState::all_sources_read() const {
    return std::ranges::none_of(sources,
                                [](const auto& source) { return source.second.state == SourceState::unreadable; });
}

bool hostport_matches(const NodeState& state, const HostPortRule& rule, const Endpoint& destination, Protocol protocol,
                      bool from_node) {
    if (rule.family != destination.ip.family || rule.protocol != protocol || !rule.port.contains(destination.port)) {
        return false;
    }
    if (!(from_node ? rule.in_output : rule.in_prerouting)) {
        return false;
    }
    if (rule.host_ip && !rule.host_ip->contains(destination.ip)) {
        return false;
    }
    if (std::ranges::any_of(rule.not_destinations,
                            [&](const Prefix& prefix) { return prefix.contains(destination.ip); })) {
        return false;
    }
    const bool local_only = from_node ? rule.local_only_output : rule.local_only;
    return !local_only || state.find_local(destination.ip) != nullptr;
}

}  // namespace hptrace
