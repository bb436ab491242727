// SPDX-License-Identifier: GPL-2.0-or-later
// Conflicts that can be read from the rules, before any traffic.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "judge/judge.hpp"
#include "judge/match.hpp"
#include "judge/words.hpp"

namespace hptrace {

namespace {

// A NodePort is one thing, however many addresses the node has (ipvs mode has a virtual server for each).
bool is_any_address(const Service& service) {
    return !service.ip || service.kind == ServiceKind::node_port;
}

// HostPort rules by what is cheap to compare, so that the search stays linear in the Services.
class RuleIndex {
public:
    explicit RuleIndex(const NodeState& state) {
        for (const auto& rule : state.hostports) {
            if (rule.port.first == rule.port.last) {
                by_port_[key(rule.family, rule.protocol, rule.port.first)].push_back(&rule);
            } else {
                ranges_.push_back(&rule);
            }
        }
    }

    [[nodiscard]] std::vector<const HostPortRule*> find(const Service& service) const {
        std::vector<const HostPortRule*> rules;
        if (const auto found = by_port_.find(key(service.family, service.protocol, service.port));
            found != by_port_.end()) {
            rules = found->second;
        }
        for (const auto* rule : ranges_) {
            if (rule->family == service.family && rule->protocol == service.protocol &&
                rule->port.contains(service.port)) {
                rules.push_back(rule);
            }
        }
        std::ranges::sort(rules, {}, [](const HostPortRule* rule) { return std::tuple(rule->backend, rule->order); });
        return rules;
    }

private:
    static std::uint32_t key(Family family, Protocol protocol, std::uint16_t port) {
        return static_cast<std::uint32_t>(family) << 24U | static_cast<std::uint32_t>(protocol) << 16U | port;
    }

    std::unordered_map<std::uint32_t, std::vector<const HostPortRule*>> by_port_;
    std::vector<const HostPortRule*> ranges_;
};

bool wants_same_destination(const NodeState& state, const Service& service, const HostPortRule& rule) {
    if (service.ip) {
        return matches_somewhere(state, rule, {*service.ip, service.port}, service.protocol);
    }
    return std::ranges::any_of(state.local_addresses, [&](const LocalAddress& local) {
        const auto& address = local.prefix.address;
        return address.family == service.family && !is_service_device(local.device) &&
               (service.on_loopback || !address.is_loopback()) &&
               matches_somewhere(state, rule, {address, service.port}, service.protocol);
    });
}

bool takes_everything(const HostPortRule& rule) {
    return !rule.conditional && !rule.host_ip && rule.not_destinations.empty();
}

bool matches(const Filter& filter, const Service& service, const HostPortRule& rule) {
    const auto any = [](const auto& list, auto test) { return list.empty() || std::ranges::any_of(list, test); };
    return any(filter.ports, [&](const PortRange& range) { return range.contains(service.port); }) &&
           any(filter.protocols, [&](Protocol protocol) { return protocol == service.protocol; }) &&
           (!filter.family || *filter.family == service.family) &&
           (!filter.dest || !service.ip || filter.dest->contains(*service.ip) || filter.dest->contains(rule.target.ip));
}

std::string hooks_text(const Service& service, const HostPortRule& rule) {
    return service.backend && *service.backend != rule.backend
               ? fmt::format("whose nat hook was registered last, that of {} or of {}: the rules do not show it",
                             to_string(rule.backend), to_string(*service.backend))
               : "which nat hook was registered last: the rules do not show it";
}

// Who wins, as far as the rules show it. Rows of the reason codes: see hijack_reason().
void predict(Conflict& conflict, const NodeState& state) {
    const auto& service = conflict.service;
    const auto& rule = conflict.rule;
    conflict.reason_code = hijack_reason(service, rule, service.ip, std::nullopt, state);
    switch (*conflict.reason_code) {
        case ReasonCode::nodeport_ipvs:
        case ReasonCode::no_accept:
        case ReasonCode::other_backend:
        case ReasonCode::jump_before_kube_services:
        case ReasonCode::no_endpoints:
            conflict.winner = Winner::hostport;
            break;
        case ReasonCode::hook_order:
        case ReasonCode::no_local_check:
            conflict.winner = service.proxy == ServiceProxy::ipvs ? Winner::hostport : Winner::depends;
            conflict.depends_on = hooks_text(service, rule);
            break;
        case ReasonCode::etp_local:
        case ReasonCode::lb_source_ranges:
            // Not from everyone, but whatever the order of hooks.
            conflict.winner = Winner::hostport;
            break;
        case ReasonCode::not_served_here:
            conflict.winner = service.kind == ServiceKind::health_check_node_port ? Winner::hostport : Winner::service;
            break;
    }
    if (conflict.winner == Winner::service) {
        conflict.reason_code.reset();
    } else {
        conflict.reason = reason_text(*conflict.reason_code, service, rule, service.ip, state);
    }
    if (conflict.winner == Winner::hostport && rule.conditional) {
        conflict.winner = Winner::depends;
        conflict.depends_on = "other conditions of the HostPort rule";
    }
    if (conflict.winner != Winner::depends) {
        conflict.depends_on.clear();
    }
}

Conflict make_conflict(const Service& service, const HostPortRule& rule, const NodeState& state) {
    Conflict conflict;
    conflict.netns = state.netns;
    conflict.service = service;
    conflict.rule = rule;
    predict(conflict, state);
    conflict.bypass = has_endpoint(service, target_of(rule, service.port)) || is_service_proxy(rule, service, state);
    conflict.leftover = left_over(rule, state);
    conflict.conflict_id = conflict_id(service, rule);
    return conflict;
}

}  // namespace

std::string conflict_id(const Service& service, const HostPortRule& rule) {
    const auto name = fmt::format("{}|{}|{}|{}|{}|{}", to_string(service.protocol),
                                  service.ip && !is_any_address(service) ? to_string(*service.ip) : "*", service.port,
                                  to_string(rule.backend), rule.chain, to_string(rule.target));
    std::uint32_t hash = 2166136261U;  // FNV-1a
    for (const char c : name) {
        hash = (hash ^ static_cast<std::uint8_t>(c)) * 16777619U;
    }
    return fmt::format("c-{:08x}", hash);
}

std::vector<Conflict> find_conflicts(const NodeState& state, const Filter& filter) {
    const RuleIndex rules(state);
    std::vector<Conflict> conflicts;
    std::unordered_set<std::string> known;
    for (const auto& service : state.services) {
        std::optional<Backend> taken;  // by a rule nothing behind it in the same back end gets past
        for (const auto* rule : rules.find(service)) {
            if (taken == rule->backend || !matches(filter, service, *rule) ||
                !wants_same_destination(state, service, *rule)) {
                continue;
            }
            auto conflict = make_conflict(service, *rule, state);
            if (takes_everything(*rule)) {
                taken = rule->backend;
            }
            if (known.insert(conflict.conflict_id).second) {
                conflicts.push_back(std::move(conflict));
            }
        }
    }
    std::ranges::sort(conflicts, [](const Conflict& a, const Conflict& b) {
        const auto order = [](const Conflict& c) {
            const auto rank = c.winner == Winner::hostport ? 0 : c.winner == Winner::depends ? 1 : 2;
            return std::tuple(rank, c.service.port, c.service.protocol, c.service.kind, c.service.ip, c.rule.order);
        };
        return order(a) < order(b);
    });
    return conflicts;
}

std::vector<LeakedRule> find_leaked(const NodeState& state, const Filter& filter) {
    std::vector<LeakedRule> leaked;
    const auto matches_rule = [&filter](const HostPortRule& rule) {
        const auto any = [](const auto& list, auto test) { return list.empty() || std::ranges::any_of(list, test); };
        return any(filter.ports,
                   [&](const PortRange& range) {
                       return range.first <= rule.port.last && rule.port.first <= range.last;
                   }) &&
               any(filter.protocols, [&](Protocol protocol) { return protocol == rule.protocol; }) &&
               (!filter.family || *filter.family == rule.family) &&
               (!filter.dest || filter.dest->contains(rule.target.ip));
    };
    for (const auto& rule : state.hostports) {
        const auto leftover = matches_rule(rule) ? left_over(rule, state) : LeftOver::no;
        if (leftover != LeftOver::no) {
            leaked.push_back({rule, leftover});
        }
    }
    return leaked;
}

}  // namespace hptrace
