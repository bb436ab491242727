// SPDX-License-Identifier: GPL-2.0-or-later
#include "judge/judge.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "judge/doubts.hpp"
#include "judge/match.hpp"
#include "judge/words.hpp"

namespace hptrace {

namespace {

Asked asked_by(const Connection& connection) {
    return {connection.original.ip.family, connection.protocol, connection.original.port};
}

// The first HostPort rule that turns the original destination into the rewritten one; null: none. The hook may be
// unknown, so traffic of the node itself and forwarded traffic are both tried.
const HostPortRule* find_candidate(const Connection& connection, const NodeState& state) {
    for (const auto place : state.hostports_to(connection.rewritten.ip)) {
        const auto& rule = state.hostports[place];
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
            finding.leftover = LeftOver::no;
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

// The sandbox at the address cannot be the endpoint that the connection was made to: it is of a pod in another
// namespace than the Service, or it has the address since the connection began. Null: nothing shows that.
const Sandbox* stranger_at(const Address& address, const Connection& connection, const Service& service,
                           const NodeState& state) {
    const auto* const sandbox = state.find_sandbox(address);
    if (sandbox == nullptr) {
        return nullptr;
    }
    const bool other_namespace = service.name && !sandbox->named_by_itself && !sandbox->pod_namespace.empty() &&
                                 sandbox->pod_namespace != service.name->ns;
    const bool came_later = connection.began_ns && sandbox->since_ns > *connection.began_ns;
    return other_namespace || came_later ? sandbox : nullptr;
}

// An existing connection goes where no rule leads now. Why that is more than an endpoint that has left its Service;
// empty: nothing shows that it is.
std::string why_stale(const Connection& connection, const Service& service, const NodeState& state) {
    const auto& target = connection.rewritten;
    if (connection.protocol == Protocol::udp) {
        return "no current rule leads there: the rule it was made by is gone, the flow stays as long as there is "
               "traffic";
    }
    if (service.proxy == ServiceProxy::ipvs) {  // which never leads anywhere through nf_nat
        return "no current rule leads there: the rule it was made by is gone, the connection stays";
    }
    for (const auto place : state.hostports_to(target.ip)) {
        const auto& rule = state.hostports[place];
        if (rule.family == target.ip.family && rule.protocol == connection.protocol &&
            (rule.target.port == 0 || rule.target.port == target.port)) {
            return fmt::format(
                "it goes to a pod with hostPort {}, which is no endpoint of the Service: the rule it was made "
                "by is gone, the connection stays",
                rule.port.first);
        }
    }
    if (const auto* const stranger = stranger_at(target.ip, connection, service, state); stranger != nullptr) {
        return fmt::format(
            "the address is another pod's now{}: the endpoint it was made to is gone",
            stranger->pod_name.empty() ? "" : fmt::format(" ({}/{})", stranger->pod_namespace, stranger->pod_name));
    }
    return {};
}

void judge_unexplained_service(Finding& finding, const Service& service, const NodeState& state) {
    const auto& connection = finding.connection;
    if (has_endpoint(service, connection.rewritten)) {
        finding.verdict = Verdict::ok;
        return;
    }
    if (auto doubt = doubt_about_rules(state, asked_by(connection)); !doubt.empty()) {
        set_unknown(finding, std::move(doubt));
        return;
    }
    if (auto doubt = doubt_about_endpoints(state, service); !doubt.empty()) {
        set_unknown(finding, std::move(doubt));
        return;
    }
    if (!connection.existing) {
        finding.verdict = Verdict::foreign;
        finding.reason = "neither the Service's rules nor a HostPort rule leads there: another DNAT rule does";
        return;
    }
    if (connection.tcp_state && is_closing(*connection.tcp_state)) {
        finding.verdict = Verdict::ok;
        finding.reason = "no current rule leads there, but the connection is closed";
        return;
    }
    finding.reason = why_stale(connection, service, state);
    finding.verdict = finding.reason.empty() ? Verdict::ok : Verdict::stale;
    if (finding.reason.empty()) {
        finding.reason =
            "no current rule leads there: as far as can be seen an endpoint that has left the Service, "
            "which keeps the connections it has";
    }
}

void judge_no_service(Finding& finding, const HostPortRule* rule, const NodeState& state) {
    const auto& original = finding.connection.original.ip;
    if (auto doubt = doubt_about_services(state, asked_by(finding.connection)); !doubt.empty()) {
        set_unknown(finding, std::move(doubt));
        return;
    }
    if (rule == nullptr) {
        finding.verdict = Verdict::other;
        return;
    }
    const auto* local = state.find_local(original);
    if (local == nullptr) {
        // Only a rule without a local check gets here: a Service's address, or any address of the world.
        finding.verdict = state.is_service_address(original) ? Verdict::exposed : Verdict::other;
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
        finding.leftover = left_over(*rule, state, connection.boot_ns);
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
    if (auto doubt = doubt_about_ip_vs(state); !doubt.empty()) {
        set_unknown(finding, std::move(doubt));
        return;
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
    // A state from before it says nothing of what came between: also what looks harmless may have been a hijack.
    bool settled = finding.verdict == Verdict::unknown ||
                   (!is_alarm(finding.verdict) && (after != nullptr || connection.existing));
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
    finding.leftover = LeftOver::no;
    finding.reason_code.reset();
    finding.conflict_id.clear();
    finding.unknown_why.clear();
    finding.reason = "the rules or Services were changing at that moment";
    return finding;
}

}  // namespace hptrace
