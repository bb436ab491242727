// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/overview.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "judge/doubts.hpp"
#include "judge/words.hpp"

namespace hptrace {

namespace {

template <class List, class Test>
bool empty_or_any(const List& list, Test test) {
    return list.empty() || std::ranges::any_of(list, test);
}

bool matches(const Filter& filter, const Service& service) {
    return empty_or_any(filter.ports, [&](const PortRange& range) { return range.contains(service.port); }) &&
           empty_or_any(filter.protocols, [&](Protocol protocol) { return protocol == service.protocol; }) &&
           (!filter.family || *filter.family == service.family) &&
           (!filter.dest || !service.ip || filter.dest->contains(*service.ip) ||
            std::ranges::any_of(service.endpoints, [&](const Endpoint& end) { return filter.dest->contains(end.ip); }));
}

bool matches(const Filter& filter, const HostPortRule& rule) {
    return empty_or_any(filter.ports,
                        [&](const PortRange& range) {
                            return range.first <= rule.port.last && rule.port.first <= range.last;
                        }) &&
           empty_or_any(filter.protocols, [&](Protocol protocol) { return protocol == rule.protocol; }) &&
           (!filter.family || *filter.family == rule.family) &&
           (!filter.dest || !rule.host_ip || filter.dest->contains(rule.host_ip->address) ||
            filter.dest->contains(rule.target.ip));
}

// A Service counts once, whatever its protocols, addresses of the node and, where it has a name, families.
std::size_t count_services(const NodeState& state, const Filter& filter) {
    std::set<std::string> services;
    for (const auto& service : state.services) {
        if (matches(filter, service)) {
            services.insert(service.name ? full_name(*service.name) : destination_text(service));
        }
    }
    return services.size();
}

// So does a HostPort: one port of one pod.
std::size_t count_hostports(const NodeState& state, const Filter& filter) {
    std::set<std::string> hostports;
    for (const auto& rule : state.hostports) {
        if (matches(filter, rule)) {
            hostports.insert(fmt::format("{} {}", rule.port.first,
                                         rule.container_id.empty() ? to_string(rule.target.ip) : rule.container_id));
        }
    }
    return hostports.size();
}

// Nothing is known of it, or only what was read before.
bool is_unread(const SourceStatus& status) {
    return status.kept_from_ns || status.state == SourceState::unreadable;
}

// What is missing while a source that decides nothing cannot be read; empty: it decides something.
std::string_view small_loss(SourceRole role) {
    switch (role) {
        case SourceRole::kinds:
            return "gives only kinds of Services";
        case SourceRole::owners:
            return "gives only whose a rule is";
        case SourceRole::names:
            return "gives only names";
        case SourceRole::everything:
        case SourceRole::rules:
        case SourceRole::services:
        case SourceRole::addresses:
            break;
    }
    return {};
}

}  // namespace

Beginning overview(const NodeState& state, const Filter& filter, std::vector<std::string> doubts) {
    return {.node = state.node,
            .netns = state.netns,
            .proxy = state.proxy,
            .services = count_services(state, filter),
            .hostports = count_hostports(state, filter),
            .ports = filter.ports,
            .unread_sources = unread_sources(state),
            .unread_rules = state.unread_rules.size(),
            .doubts = std::move(doubts),
            .sources = state.sources};
}

std::vector<std::string> not_understood(const NodeState& state) {
    std::vector<std::string> lines;
    constexpr std::size_t most = 5;
    for (std::size_t i = 0; i < std::min(most, state.unread_rules.size()); ++i) {
        const auto& rule = state.unread_rules[i];
        lines.push_back(fmt::format("not understood, what depends on it is judged unknown: {} {}: {}",
                                    to_string(rule.backend), rule.chain, rule.text));
    }
    if (state.unread_rules.size() > most) {
        lines.push_back(fmt::format("and {} more rules not understood", state.unread_rules.size() - most));
    }
    return lines;
}

std::vector<std::string> nothing_to_see(const NodeState& state, const Filter& filter) {
    std::vector<std::string> lines;
    if (!doubts(state, filter).empty()) {
        return lines;
    }
    const auto ports = filter.ports.empty() ? std::string() : fmt::format(" for {}", to_string(filter.ports));
    if (state.services.empty()) {
        lines.emplace_back(state.netns == 0  // a dump
                               ? "no Services in the dump: not made in the node's network namespace?"
                               : "no Services in this network namespace: not the node's? (--netns PATH|PID)");
    } else if (count_services(state, filter) == 0) {
        lines.push_back(fmt::format("no Service{} here that matches: a hostPort can take nothing from it", ports));
    }
    if (count_hostports(state, filter) == 0) {
        lines.push_back(
            fmt::format("no HostPort rule{} here. Hijacks happen on the client's node or on the node receiving "
                        "the NodePort: run there",
                        ports));
    }
    return lines;
}

UnreadCount count_unread(const NodeState& state) {
    UnreadCount count;
    for (const auto& [name, status] : state.sources) {
        if (is_unread(status)) {
            ++(decides(source_row(name).role) ? count.deciding : count.naming);
        }
    }
    return count;
}

std::vector<std::string> unread_sources(const NodeState& state) {
    std::vector<std::string> unread;
    for (const auto& [name, status] : state.sources) {
        if (!is_unread(status)) {
            continue;
        }
        if (status.kept_from_ns) {
            unread.push_back(fmt::format("{} (as it was read before; now: {})", name, status.why));
            continue;
        }
        auto why = status.why;
        if (const auto loss = small_loss(source_row(name).role); !loss.empty()) {
            why += fmt::format("{}{}", why.empty() ? "" : "; ", loss);
        }
        unread.push_back(why.empty() ? name : fmt::format("{} ({})", name, why));
    }
    return unread;
}

std::vector<std::string> not_proven(const NodeState& state, std::vector<std::string> doubts) {
    if (doubts.empty() && state.services.empty()) {
        doubts.emplace_back("there are no Services here, which every node has");
    }
    return doubts;
}

}  // namespace hptrace
