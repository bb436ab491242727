// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/rules_part.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <tuple>

namespace hptrace {
namespace {

// The same Service as written by two back ends: what either of them may lead to is legitimate.
void join(const Service& from, Service& into) {
    std::vector<Endpoint> endpoints;
    std::ranges::set_union(into.endpoints, from.endpoints, std::back_inserter(endpoints));
    into.endpoints = std::move(endpoints);
    into.persistent = into.persistent || from.persistent;
    into.external_local = into.external_local || from.external_local;
    into.handles_outside = into.handles_outside || from.handles_outside;
    // Whom one of them serves without asking is served.
    if (into.allowed_sources.empty() || from.allowed_sources.empty()) {
        into.allowed_sources.clear();
    } else {
        into.allowed_sources.insert(into.allowed_sources.end(), from.allowed_sources.begin(),
                                    from.allowed_sources.end());
    }
}

void add_services(const std::vector<Service>& from, std::vector<Service>& into) {
    if (into.empty() || from.empty()) {
        into.insert(into.end(), from.begin(), from.end());
        return;
    }
    const auto key = [](const Service& service) {
        return std::tuple(service.family, service.ip, service.port, service.protocol);
    };
    std::map<decltype(key(into.front())), std::size_t> places;
    for (std::size_t i = 0; i < into.size(); ++i) {
        places.try_emplace(key(into[i]), i);
    }
    for (const auto& service : from) {
        if (const auto known = places.find(key(service)); known != places.end()) {
            join(service, into[known->second]);
        } else {
            into.push_back(service);
        }
    }
}

void append(const auto& from, auto& into) {
    into.insert(into.end(), from.begin(), from.end());
}

int rank(ProxyMode mode) {
    switch (mode) {
        case ProxyMode::iptables:
            return 3;
        case ProxyMode::ipvs:
            return 2;
        case ProxyMode::nftables:
            return 1;
        case ProxyMode::other_ipvs:
        case ProxyMode::none:
            break;
    }
    return 0;
}

}  // namespace

void add_rules(const RulesPart& part, NodeState& state) {
    if (rank(part.proxy) > rank(state.proxy)) {
        state.proxy = part.proxy;
    }
    add_services(part.services, state.services);
    append(part.hostports, state.hostports);
    append(part.nat_tables, state.nat_tables);
    append(part.unread_rules, state.unread_rules);
}

}  // namespace hptrace
