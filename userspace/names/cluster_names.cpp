// SPDX-License-Identifier: GPL-2.0-or-later
#include "names/cluster_names.hpp"

#include <algorithm>
#include <functional>
#include <string_view>
#include <tuple>

namespace hptrace {

namespace {

std::size_t hash_of(const Pod& pod) {
    return std::hash<std::string>{}(pod.ns) * 31U + std::hash<std::string>{}(pod.name);
}

std::size_t hash_of(const ServiceName& service) {
    return (std::hash<std::string>{}(service.ns) * 31U + std::hash<std::string>{}(service.name)) * 31U +
           std::hash<std::string>{}(service.port);
}

Endpoint any_address(std::uint16_t port) {
    return {.ip = Address{}, .port = port};
}

}  // namespace

template <class Name>
void NameTable<Name>::add(const Endpoint& end, Protocol protocol, const Name& name) {
    if (entries_.size() == most_names) {
        ++left_out_;
        return;
    }
    const auto hash = hash_of(name);
    for (auto [at, last] = known_.equal_range(hash); at != last; ++at) {
        if (names_[at->second] == name) {
            entries_.push_back({end, protocol, at->second});
            return;
        }
    }
    const auto number = static_cast<std::uint32_t>(names_.size());
    names_.push_back(name);
    known_.emplace(hash, number);
    entries_.push_back({end, protocol, number});
}

template <class Name>
void NameTable<Name>::finish() {
    known_ = {};
    std::ranges::sort(entries_, {}, [](const Entry& entry) { return std::tuple(entry.key(), entry.name); });
    std::vector<Entry> unique;
    for (auto at = entries_.cbegin(); at != entries_.cend();) {
        const auto next =
            std::find_if(at, entries_.cend(), [&](const Entry& entry) { return entry.key() != at->key(); });
        if (at->name == std::prev(next)->name) {
            unique.push_back(*at);
        }
        at = next;
    }
    unique.shrink_to_fit();
    names_.shrink_to_fit();
    entries_ = std::move(unique);
}

template <class Name>
const Name* NameTable<Name>::find(const Endpoint& end, Protocol protocol) const {
    const auto found = std::ranges::lower_bound(entries_, std::pair(end, protocol), {}, &Entry::key);
    return found != entries_.end() && found->key() == std::pair(end, protocol) ? &names_[found->name] : nullptr;
}

template class NameTable<Pod>;
template class NameTable<ServiceName>;

void ServiceNames::add(const Endpoint& destination, Protocol protocol, const ServiceName& name) {
    addresses_.add(destination, protocol, name);
}

void ServiceNames::add_node_port(std::uint16_t port, Protocol protocol, const ServiceName& name) {
    node_ports_.add(any_address(port), protocol, name);
}

void ServiceNames::finish() {
    addresses_.finish();
    node_ports_.finish();
}

const ServiceName* ServiceNames::find(const Service& service) const {
    const bool of_nodes =
        !service.ip || service.kind == ServiceKind::node_port || service.kind == ServiceKind::health_check_node_port;
    return of_nodes ? node_ports_.find(any_address(service.port), service.protocol)
                    : addresses_.find({*service.ip, service.port}, service.protocol);
}

void NodePods::add(Entry pod) {
    if (pods_.size() == most_node_pods) {
        ++left_out_;
        return;
    }
    pods_.push_back(std::move(pod));
}

void NodePods::finish() {
    by_ip_.clear();
    const auto rank = [](const Entry& pod) { return std::tuple(!pod.terminating, std::string_view(pod.created)); };
    for (std::size_t i = 0; i < pods_.size(); ++i) {
        for (const auto& ip : pods_[i].ips) {
            const auto [known, first] = by_ip_.try_emplace(ip, i);
            if (!first && rank(pods_[known->second]) < rank(pods_[i])) {
                known->second = i;
            }
        }
    }
}

const NodePods::Entry* NodePods::entry_of(const Address& ip) const {
    const auto found = by_ip_.find(ip);
    return found == by_ip_.end() ? nullptr : &pods_[found->second];
}

const Pod* NodePods::find(const Address& ip) const {
    const auto* const entry = entry_of(ip);
    return entry == nullptr ? nullptr : &entry->pod;
}

const Pod* NodePods::find_owner(const HostPortRule& rule) const {
    const auto* const entry = entry_of(rule.target.ip);
    // A leaked rule leads to an address that may be another pod's by now.
    const auto is_wanted = [&rule](const HostPort& wanted) {
        return rule.port.contains(wanted.port) && wanted.protocol == rule.protocol;
    };
    return entry != nullptr && std::ranges::any_of(entry->host_ports, is_wanted) ? &entry->pod : nullptr;
}

}  // namespace hptrace
