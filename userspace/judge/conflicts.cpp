// SPDX-License-Identifier: GPL-2.0-or-later
// Conflicts that can be read from the rules, before any traffic.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "base/work.hpp"
#include "judge/doubts.hpp"
#include "judge/judge.hpp"
#include "judge/match.hpp"
#include "judge/rule_index.hpp"
#include "judge/words.hpp"

namespace hptrace {

namespace {

// A NodePort is one thing, however many addresses the node has (ipvs mode has a virtual server for each).
bool is_any_address(const Service& service) {
    return !service.ip || service.kind == ServiceKind::node_port;
}

bool takes_everything(const HostPortRule& rule) {
    return !rule.conditional && !rule.host_ip && rule.not_destinations.empty();
}

bool asks_for(const Filter& filter, const Service& service) {
    const auto any = [](const auto& list, auto test) { return list.empty() || std::ranges::any_of(list, test); };
    return any(filter.ports, [&](const PortRange& range) { return range.contains(service.port); }) &&
           any(filter.protocols, [&](Protocol protocol) { return protocol == service.protocol; }) &&
           (!filter.family || *filter.family == service.family);
}

bool asks_for(const Filter& filter, const Service& service, const HostPortRule& rule) {
    return !filter.dest || !service.ip || filter.dest->contains(*service.ip) || filter.dest->contains(rule.target.ip);
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

// What makes a Service x HostPort rule pair the same one.
std::string name_of(const Service& service, const HostPortRule& rule) {
    return fmt::format("{}|{}|{}|{}|{}|{}", to_string(service.protocol),
                       service.ip && !is_any_address(service) ? to_string(*service.ip) : "*", service.port,
                       to_string(rule.backend), rule.chain, to_string(rule.target));
}

std::string id_of(std::string_view name) {
    std::uint32_t hash = 2166136261U;  // FNV-1a
    for (const char c : name) {
        hash = (hash ^ static_cast<std::uint8_t>(c)) * 16777619U;
    }
    return fmt::format("c-{:08x}", hash);
}

class Search {
public:
    Search(const NodeState& state, const Filter& filter)
        : state_(state), filter_(filter), rules_(state, comparisons_) {}

    // False: too much is to be compared, or found.
    bool run() {
        return std::ranges::all_of(state_.services, [this](const Service& one) { return look_at(one); });
    }
    [[nodiscard]] std::vector<Conflict> found() && { return std::move(found_); }

private:
    bool look_at(const Service& service) {
        if (!asks_for(filter_, service)) {
            return true;
        }
        const auto rules = rules_.find(service);
        if (!rules) {
            return false;
        }
        std::optional<Backend> taken;  // by a rule nothing behind it in the same back end gets past
        for (const auto* rule : *rules) {
            if (taken == rule->backend) {
                continue;
            }
            if (takes_everything(*rule)) {
                taken = rule->backend;
            }
            if (asks_for(filter_, service, *rule) && !add(service, *rule)) {
                return false;
            }
        }
        return true;
    }

    bool add(const Service& service, const HostPortRule& rule) {
        if (!known_.insert(name_of(service, rule)).second) {
            return true;
        }
        if (found_.size() >= most_conflicts ||
            !copied_.spend(service.endpoints.size() + service.allowed_sources.size())) {
            return false;
        }
        found_.push_back(make_conflict(service, rule, state_));
        return true;
    }

    const NodeState& state_;
    const Filter& filter_;
    Work comparisons_{most_comparisons};
    Work copied_{std::size_t{1} << 20U};  // endpoints and ranges of addresses: a conflict has its Service's
    RuleIndex rules_;
    std::unordered_set<std::string> known_;
    std::vector<Conflict> found_;
};

}  // namespace

std::string conflict_id(const Service& service, const HostPortRule& rule) {
    return id_of(name_of(service, rule));
}

FoundConflicts find_conflicts(const NodeState& state, const Filter& filter) {
    FoundConflicts found;
    found.doubts = doubts(state, filter);
    Search search(state, filter);
    found.given_up = !search.run();
    if (found.given_up) {
        found.doubts.emplace_back(
            "so many Services and HostPort rules want the same ports that not all of them were compared");
    }
    found.conflicts = std::move(search).found();
    std::ranges::sort(found.conflicts, [](const Conflict& a, const Conflict& b) {
        const auto order = [](const Conflict& c) {
            const auto rank = c.winner == Winner::hostport ? 0 : c.winner == Winner::depends ? 1 : 2;
            return std::tuple(rank, c.service.port, c.service.protocol, c.service.kind, c.service.ip, c.rule.order);
        };
        return order(a) < order(b);
    });
    return found;
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
