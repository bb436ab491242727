// SPDX-License-Identifier: GPL-2.0-or-later
#include "judge/rule_index.hpp"

#include <algorithm>

#include "judge/match.hpp"

namespace hptrace {

namespace {

bool needs_local(const HostPortRule& rule) {
    return (!rule.in_prerouting || rule.local_only) && (!rule.in_output || rule.local_only_output);
}

bool asks_for_nothing_more(const HostPortRule& rule) {
    return !rule.conditional && rule.not_destinations.empty();
}

}  // namespace

RuleIndex::RuleIndex(const NodeState& state, Work& work) : state_(state), work_(work) {
    for (const auto& rule : state.hostports) {
        add(rule);
    }
    for (const auto& local : state.local_addresses) {
        const auto& address = local.prefix.address;
        if (is_service_device(local.device)) {
            continue;
        }
        for (const bool on_loopback : {false, true}) {
            auto& [all, set] = node_addresses_.at(address.family == Family::ipv4 ? 0 : 1).at(on_loopback ? 1 : 0);
            if ((on_loopback || !address.is_loopback()) && set.insert(address).second) {
                all.push_back(address);
            }
        }
    }
}

void RuleIndex::add(const HostPortRule& rule) {
    auto& ports = rule.port.first == rule.port.last ? by_port_[{rule.family, rule.protocol, rule.port.first}]
                                                    : by_range_[{rule.family, rule.protocol}][rule.port];
    const auto network = rule.host_ip.value_or(Prefix{Address{.family = rule.family}, 0});
    ports.lengths.insert(network.length);
    auto& same = ports.by_network[{network.length, network.masked(), needs_local(rule)}];
    const auto way =
        std::tuple(rule.backend, rule.local_only, rule.local_only_output, rule.in_prerouting, rule.in_output);
    if (same.complete.contains(way)) {
        return;  // nothing gets past the one before it
    }
    if (asks_for_nothing_more(rule)) {
        same.complete.insert(way);
    }
    same.rules.push_back(&rule);
}

std::optional<std::vector<const HostPortRule*>> RuleIndex::find(const Service& service) const {
    Rules rules;
    if (const auto ports = by_port_.find({service.family, service.protocol, service.port});
        ports != by_port_.end() && !collect(service, ports->second, rules)) {
        return std::nullopt;
    }
    if (const auto ranges = by_range_.find({service.family, service.protocol}); ranges != by_range_.end()) {
        for (const auto& [range, ports] : ranges->second) {
            if (!work_.spend(1) || (range.contains(service.port) && !collect(service, ports, rules))) {
                return std::nullopt;
            }
        }
    }
    std::ranges::sort(rules, {}, [](const HostPortRule* rule) { return std::tuple(rule->backend, rule->order); });
    return rules;
}

bool RuleIndex::collect(const Service& service, const Ports& ports, Rules& rules) const {
    const auto add = [&](const SamePackets& same) {
        return std::ranges::all_of(same.rules, [&](const HostPortRule* rule) {
            const auto takes = work_.spend(1) ? takes_some(service, *rule) : std::nullopt;
            if (takes == true) {
                rules.push_back(rule);
            }
            return takes.has_value();
        });
    };
    if (!service.ip) {
        return std::ranges::all_of(ports.by_network, [&](const auto& entry) { return add(entry.second); });
    }
    const bool local = state_.find_local(*service.ip) != nullptr;
    for (const auto length : ports.lengths) {
        for (const bool only_local : {false, true}) {
            const auto found = ports.by_network.find({length, Prefix{*service.ip, length}.masked(), only_local});
            if (found != ports.by_network.end() && (local || !only_local) && !add(found->second)) {
                return false;
            }
        }
    }
    return true;
}

std::optional<bool> RuleIndex::takes_some(const Service& service, const HostPortRule& rule) const {
    const auto takes = [&](const Address& address) {
        return matches_somewhere(state_, rule, {address, service.port}, service.protocol);
    };
    if (service.ip) {
        return takes(*service.ip);
    }
    const auto& addresses = node_addresses(service);
    if (rule.host_ip && rule.host_ip->length == rule.host_ip->address.size() * 8) {
        return addresses.set.contains(rule.host_ip->address) && takes(rule.host_ip->address);
    }
    for (const auto& address : addresses.all) {
        if (!work_.spend(1)) {
            return std::nullopt;
        }
        if (takes(address)) {
            return true;
        }
    }
    return false;
}

}  // namespace hptrace
