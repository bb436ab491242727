// SPDX-License-Identifier: GPL-2.0-or-later
#include "judge/judge.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "judge/match.hpp"
#include "judge/words.hpp"

namespace hptrace {

namespace {

std::string unreadable(const NodeState& state, std::string_view source) {
    const auto found = state.sources.find(std::string(source));
    if (found == state.sources.end() || found->second.state != SourceState::unreadable) {
        return {};
    }
    return fmt::format("{} could not be read{}{}", source, found->second.why.empty() ? "" : ": ", found->second.why);
}

template <class Relevant>
std::string not_understood(const NodeState& state, Family family, Relevant relevant) {
    for (const auto& rule : state.unread_rules) {
        if (rule.family == family && relevant(std::string_view(rule.chain))) {
            return fmt::format("a rule of {} ({}) was not understood", rule.chain, to_string(rule.backend));
        }
    }
    return {};
}

// Could something unread make the destination a Service's?
std::string doubt_about_services(const NodeState& state, Family family) {
    const auto* legacy = family == Family::ipv4 ? "iptables-legacy" : "ip6tables-legacy";
    for (const std::string_view source :
         {netns_source, std::string_view("ip_vs"), std::string_view(legacy), std::string_view("nf_tables")}) {
        if (auto why = unreadable(state, source); !why.empty()) {
            return why;
        }
    }
    return not_understood(state, family, [](std::string_view chain) {
        // Chains of iptables and ipvs mode; chains, maps and sets of nftables mode.
        constexpr std::array<std::string_view, 12> dispatching{"KUBE-SERVICES",
                                                               "KUBE-NODEPORTS",
                                                               "KUBE-NODE-PORT",
                                                               "services",
                                                               "service-ips",
                                                               "service-nodeports",
                                                               "nodeport-ips",
                                                               "endpoints-check",
                                                               "no-endpoint-services",
                                                               "no-endpoint-nodeports",
                                                               "service-endpoints-check",
                                                               "nodeport-endpoints-check"};
        return std::ranges::find(dispatching, chain) != dispatching.end();
    });
}

// Could something unread make the new destination an endpoint of the Service?
std::string doubt_about_endpoints(const NodeState& state, const Service& service) {
    if (service.proxy == ServiceProxy::ipvs) {
        return {};
    }
    return not_understood(state, service.family, [](std::string_view chain) {
        constexpr std::array<std::string_view, 10> service_chains{"KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-",
                                                                  "KUBE-XLB-", "KUBE-FW-",  "service-",  "local-",
                                                                  "external-", "endpoint-"};
        return std::ranges::any_of(service_chains, [chain](auto prefix) { return chain.starts_with(prefix); });
    });
}

// Could something unread explain a rewrite that no known rule explains?
std::string doubt_about_rules(const NodeState& state, Family family) {
    if (auto why = doubt_about_services(state, family); !why.empty()) {
        return why;
    }
    for (const std::string_view source : {"addresses", "routes"}) {
        if (auto why = unreadable(state, source); !why.empty()) {
            return why;
        }
    }
    return not_understood(state, family, [](std::string_view) { return true; });
}

// The first HostPort rule that turns the original destination into the rewritten one; null: none. The hook may be
// unknown, so traffic of the node itself and forwarded traffic are both tried.
const HostPortRule* find_candidate(const Connection& connection, const NodeState& state) {
    for (const auto& rule : state.hostports) {
        if (rule.family == connection.original.ip.family && rule.protocol == connection.protocol &&
            target_of(rule, connection.original.port) == connection.rewritten &&
            matches_somewhere(state, rule, connection.original, connection.protocol)) {
            return &rule;
        }
    }
    return nullptr;
}

void set_unknown(Finding& finding, std::string why) {
    finding.verdict = Verdict::unknown;
    finding.reason = why;
    finding.unknown_why = std::move(why);
}

void judge_hostport_to_service(Finding& finding, const Service& service, const HostPortRule& rule,
                               const NodeState& state) {
    const auto& connection = finding.connection;
    if (is_service_proxy(rule, service, state)) {
        finding.verdict = Verdict::proxied;
        return;
    }
    if (has_endpoint(service, connection.rewritten)) {
        // Only ip_vs never rewrites through nf_nat: elsewhere the Service's own rule explains it as well.
        finding.verdict = service.proxy == ServiceProxy::ipvs ? Verdict::bypassed : Verdict::ok;
        if (finding.verdict == Verdict::ok) {
            finding.rule.reset();
            finding.rule_stale = false;
        }
        return;
    }
    if (auto doubt = doubt_about_endpoints(state, service); !doubt.empty()) {
        set_unknown(finding, std::move(doubt));
        return;
    }
    finding.verdict = Verdict::hijacked;
    finding.reason_code = hijack_reason(service, rule, connection.original.ip, connection.client.ip, state);
    finding.reason = reason_text(*finding.reason_code, service, rule, connection.original.ip, state);
    finding.conflict_id = conflict_id(service, rule);
}

void judge_unexplained_service(Finding& finding, const Service& service, const NodeState& state) {
    if (has_endpoint(service, finding.connection.rewritten)) {
        finding.verdict = Verdict::ok;
        return;
    }
    if (auto doubt = doubt_about_rules(state, service.family); !doubt.empty()) {
        set_unknown(finding, std::move(doubt));
        return;
    }
    if (auto doubt = doubt_about_endpoints(state, service); !doubt.empty()) {
        set_unknown(finding, std::move(doubt));
        return;
    }
    const bool existing = finding.connection.existing;
    finding.verdict = existing ? Verdict::stale : Verdict::foreign;
    finding.reason = existing ? "no current rule leads there: the rule it was made by is gone, the connection stays"
                              : "neither the Service's rules nor a HostPort rule leads there: another DNAT rule does";
}

void judge_no_service(Finding& finding, const HostPortRule* rule, const NodeState& state) {
    const auto& original = finding.connection.original.ip;
    if (auto doubt = doubt_about_services(state, original.family); !doubt.empty()) {
        set_unknown(finding, std::move(doubt));
        return;
    }
    if (rule == nullptr) {
        finding.verdict = Verdict::other;
        return;
    }
    const auto is_service_address = [&original](const Service& service) { return service.ip == original; };
    const auto* local = state.find_local(original);
    if (local == nullptr) {
        // Only a rule without a local check gets here: a Service's address, or any address of the world.
        const bool services = std::ranges::any_of(state.services, is_service_address);
        finding.verdict = services ? Verdict::exposed : Verdict::other;
        finding.reason_code = ReasonCode::no_local_check;
        finding.reason = reason_text(ReasonCode::no_local_check, {}, *rule, original, state);
        return;
    }
    finding.verdict = is_service_device(local->device) ? Verdict::exposed : Verdict::hostport;
}

void judge_nf_nat(Finding& finding, const NodeState& state) {
    const auto& connection = finding.connection;
    const auto* rule = find_candidate(connection, state);
    if (rule != nullptr) {
        finding.rule = *rule;
        finding.rule_stale = is_stale(*rule, state);
    }
    if (!finding.service) {
        judge_no_service(finding, rule, state);
    } else if (rule != nullptr) {
        judge_hostport_to_service(finding, *finding.service, *rule, state);
    } else {
        judge_unexplained_service(finding, *finding.service, state);
    }
}

// ip_vs chose a real server of its own virtual server: never an alarm, also when the server is on its way out
// (weight 0) or the virtual server was removed since.
void judge_ip_vs(Finding& finding, const NodeState& state) {
    if (finding.service) {
        finding.verdict = Verdict::ok;
        return;
    }
    for (const std::string_view source : {netns_source, std::string_view("ip_vs")}) {
        if (auto why = unreadable(state, source); !why.empty()) {
            set_unknown(finding, std::move(why));
            return;
        }
    }
    finding.verdict = Verdict::other;
}

bool agree(const Finding& a, const Finding& b) {
    if (a.verdict != b.verdict || a.conflict_id != b.conflict_id) {
        return false;
    }
    return !is_alarm(a.verdict) || a.service.has_value() == b.service.has_value();
}

}  // namespace

Finding judge(const Connection& connection, const NodeState& state) {
    Finding finding;
    finding.connection = connection;
    finding.state_boot_ns = state.boot_ns;
    if (const auto* service = state.find_service(connection.original, connection.protocol)) {
        finding.service = *service;
        finding.expected_total = service->endpoints.size();
        finding.expected.assign(
            service->endpoints.begin(),
            service->endpoints.begin() + static_cast<std::ptrdiff_t>(std::min(expected_limit, finding.expected_total)));
    }
    if (connection.mechanism == Mechanism::ip_vs) {
        judge_ip_vs(finding, state);
    } else {
        judge_nf_nat(finding, state);
    }
    return finding;
}

Finding judge_between(const Connection& connection, const NodeState* before, const NodeState* after,
                      bool changed_between) {
    auto finding = judge(connection, after != nullptr ? *after : *before);
    bool settled = !is_alarm(finding.verdict);
    if (before != nullptr && after != nullptr) {
        auto earlier = before == after ? finding : judge(connection, *before);
        if (finding.verdict == Verdict::unknown || earlier.verdict == Verdict::unknown) {
            return finding.verdict == Verdict::unknown ? finding
                                                       : earlier;  // of two verdicts that disagree it is first
        }
        settled = agree(earlier, finding);
    }
    const bool explained = finding.verdict != Verdict::foreign;
    if (settled && (explained || !changed_between)) {
        return finding;
    }
    finding.verdict = Verdict::unsettled;
    finding.rule.reset();
    finding.rule_stale = false;
    finding.reason_code.reset();
    finding.conflict_id.clear();
    finding.unknown_why.clear();
    finding.reason = "the rules or Services were changing at that moment";
    return finding;
}

}  // namespace hptrace
