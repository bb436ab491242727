// SPDX-License-Identifier: GPL-2.0-or-later
#include "judge/words.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#include "base/shell.hpp"
#include "judge/match.hpp"
#include "state/save_text.hpp"

namespace hptrace {

namespace {

// "10.96.0.10 is local (kube-ipvs0)".
std::string locality(const std::optional<Address>& destination, const Service& service, const NodeState& state) {
    if (!destination) {
        return fmt::format("port {} is taken on every address of this node", service.port);
    }
    const auto* local = state.find_local(*destination);
    return local != nullptr ? fmt::format("{} is local ({})", to_string(*destination), local->device)
                            : fmt::format("{} is not local", to_string(*destination));
}

std::string_view jump_hook(const HostPortRule& rule, const NodeState& state) {
    for (const auto& table : state.nat_tables) {
        if (table.backend == rule.backend && table.family == rule.family) {
            const auto& order = table.prerouting;
            return order.hostport >= 0 && order.hostport < order.kube_services ? "PREROUTING" : "OUTPUT";
        }
    }
    return "PREROUTING";
}

std::string_view entry_of(const HostPortRule& rule) {
    return rule.entry_chain.empty() ? rule.chain : rule.entry_chain;
}

std::string table_of(const HostPortRule& rule) {
    return rule.backend == Backend::nftables ? fmt::format("nft table {}", rule.table)
                                             : std::string(to_string(rule.backend));
}

std::string port_text(const PortRange& port) {
    return port.first == port.last ? fmt::format("{}", port.first) : fmt::format("{}-{}", port.first, port.last);
}

std::string alternative(ReasonCode code, const Service& service, const HostPortRule& rule) {
    switch (code) {
        case ReasonCode::other_backend:
            return fmt::format(
                "let kube-proxy and the CNI plugins use the same iptables back end, or give hostPort {} a "
                "hostIP",
                port_text(rule.port));
        case ReasonCode::jump_before_kube_services:
            return fmt::format(
                "upgrade the portmap plugin to 0.7.5 or later and move the jump to {} behind KUBE-SERVICES",
                entry_of(rule));
        case ReasonCode::nodeport_ipvs:
            return "give the Service another nodePort";
        case ReasonCode::no_local_check:
            return "upgrade the portmap plugin to 1.9.0 or later (CVE-2025-67499)";
        case ReasonCode::no_accept:
            return fmt::format("give hostPort {} a hostIP of the node, so that it leaves Service addresses alone",
                               port_text(rule.port));
        case ReasonCode::no_endpoints:
            return "give the Service a ready endpoint";
        case ReasonCode::etp_local:
            return "run an endpoint on this node, or set externalTrafficPolicy to Cluster";
        case ReasonCode::lb_source_ranges:
            return "add the client to loadBalancerSourceRanges if it may use the Service";
        case ReasonCode::hook_order:
            return service.proxy == ServiceProxy::nftables
                       ? "restart kube-proxy (1.30 or later): it registers its nat hooks anew, the last one runs first"
                       : "let kube-proxy and the CNI plugins use the same iptables back end";
        case ReasonCode::not_served_here:
            return service.kind == ServiceKind::health_check_node_port ? "give the Service another healthCheckNodePort"
                                                                       : "";
    }
    return {};
}

std::string end_flows_command(Protocol protocol, Family family, const std::optional<Address>& client,
                              const std::optional<Address>& destination, std::uint16_t port) {
    std::vector<std::string> words{"conntrack", "-D"};
    const auto add = [&words](std::initializer_list<std::string> more) {
        words.insert(words.end(), more.begin(), more.end());
    };
    if (family == Family::ipv6) {
        add({"-f", "ipv6"});
    }
    add({"-p", std::string(to_string(protocol))});
    if (client) {
        add({"--orig-src", to_string(*client)});
    }
    if (destination) {
        add({"--orig-dst", to_string(*destination)});
    }
    add({"--orig-port-dst", fmt::format("{}", port)});
    return shell_command(words);
}

std::string reconnect(Protocol protocol, Family family, const std::optional<Address>& destination, std::uint16_t port) {
    if (protocol == Protocol::tcp) {
        return "then reconnect clients: open connections stay";
    }
    return fmt::format("then end open flows: {}", end_flows_command(protocol, family, std::nullopt, destination, port));
}

// How to see whether there is a pod behind the rule.
std::string sandbox_check(const HostPortRule& rule) {
    return shell_command({"crictl", "pods", "--id", rule.container_id});
}

// A name that nft takes as it is (its scanner's "string"); any other one could hold commands of its own.
bool is_nft_name(std::string_view name) {
    const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    return !name.empty() && (is_letter(name.front()) || name.front() == '_') && std::ranges::all_of(name, [&](char c) {
        return is_letter(c) || (c >= '0' && c <= '9') || std::string_view("_-./").contains(c);
    });
}

// The words of a rule's text behind "-A CHAIN"; nothing: it is no such text.
std::optional<std::vector<std::string>> words_of(const HostPortRule& rule) {
    std::string_view text = rule.text;
    const auto begin = fmt::format("-A {} ", rule.chain);
    if (!text.starts_with(begin)) {
        return std::nullopt;
    }
    const auto parsed = split_words(text.substr(begin.size()));
    if (!parsed) {
        return std::nullopt;
    }
    std::vector<std::string> words;
    for (const auto& word : *parsed) {
        words.push_back(word.text);
    }
    return words;
}

std::optional<std::string> nft_removal(const HostPortRule& rule) {
    const auto* const family = rule.family == Family::ipv4 ? "ip" : "ip6";
    if (!is_nft_name(rule.table) || !is_nft_name(rule.map.empty() ? rule.chain : rule.map)) {
        return std::nullopt;
    }
    if (rule.map.empty()) {
        return rule.handle ? std::optional(shell_command({"nft", "delete", "rule", family, rule.table, rule.chain,
                                                          "handle", fmt::format("{}", *rule.handle)}))
                           : std::nullopt;
    }
    const auto address = rule.host_ip ? fmt::format("{} . ", to_string(rule.host_ip->address)) : std::string();
    // nft puts its arguments together again, so that the element can be one of them.
    return shell_command({"nft", "delete", "element", family, rule.table, rule.map,
                          fmt::format("{{ {}{} . {} }}", address, to_string(rule.protocol), rule.port.first)});
}

Advice hijack_advice(ReasonCode code, const Service& service, const HostPortRule& rule, LeftOver leftover,
                     const std::optional<Pod>& pod, const std::optional<Address>& destination) {
    const auto after = reconnect(service.protocol, service.family, destination, service.port);
    if (leftover == LeftOver::yes) {
        return {fmt::format("the rule is left over (its sandbox is gone): {}; {}",
                            advice_for(LeakedRule{rule, leftover}), after),
                {}};
    }
    const auto owner =
        pod ? fmt::format("owning {}", owner_text(rule, pod)) : fmt::format("behind {}", owner_text(rule, pod));
    auto fix = fmt::format("remove hostPort {} from the workload {}, {}", port_text(rule.port), owner, after);
    if (leftover == LeftOver::perhaps) {
        fix += fmt::format("; the rule may be left over, if {} shows no such pod", sandbox_check(rule));
    }
    return {std::move(fix), alternative(code, service, rule)};
}

}  // namespace

std::string Advice::text() const {
    return otherwise.empty() ? fix : fmt::format("{}; or {}", fix, otherwise);
}

std::string owner_text(const HostPortRule& rule, const std::optional<Pod>& pod) {
    if (pod) {
        return full_name(*pod) + (pod->by_own_account ? " (by its own account)" : "");
    }
    if (!rule.container_id.empty()) {
        return fmt::format("sandbox {}", rule.container_id.substr(0, 12));
    }
    return to_string(rule.target.ip);
}

std::string destination_text(const Service& service) {
    const bool any = !service.ip || service.kind == ServiceKind::node_port;
    return any ? fmt::format("*:{}", service.port) : to_string(Endpoint{*service.ip, service.port});
}

std::optional<std::string> removal_command(const HostPortRule& rule) {
    if (rule.backend == Backend::nftables || !rule.map.empty()) {
        return nft_removal(rule);
    }
    std::vector<std::string> words{fmt::format("{}tables-{}", rule.family == Family::ipv4 ? "ip" : "ip6",
                                               rule.backend == Backend::iptables_legacy ? "legacy" : "nft"),
                                   "-t", rule.table.empty() ? "nat" : rule.table};
    if (rule.chain.starts_with("CNI-DN-") || rule.chain.starts_with("KUBE-HP-")) {
        words.insert(words.end(), {"-F", rule.chain});  // a chain of its own; the jump that stays then leads nowhere
        return shell_command(words);
    }
    auto rest = words_of(rule);
    if (rule.chain.empty() || rule.chain.starts_with('-') || rule.chain.starts_with('!') || !rest) {
        return std::nullopt;
    }
    words.insert(words.end(), {"-D", rule.chain});
    std::ranges::move(*rest, std::back_inserter(words));
    return shell_command(words);
}

std::string advice_for(const LeakedRule& leaked) {
    if (leaked.leftover != LeftOver::yes) {
        return fmt::format("may be left over, or its pod is just being set up: check with {}",
                           sandbox_check(leaked.rule));
    }
    if (const auto command = removal_command(leaked.rule)) {
        return fmt::format("remove it: {}", *command);
    }
    return leaked.rule.backend == Backend::nftables
               ? "remove it by its handle, which nft -a list ruleset shows"
               : "remove it by hand: no command could take its chain's name safely";
}

std::string reason_text(ReasonCode code, const Service& service, const HostPortRule& rule,
                        const std::optional<Address>& destination, const NodeState& state) {
    auto where = locality(destination, service, state);
    switch (code) {
        case ReasonCode::other_backend: {
            const auto accept = accept_backend(state, service.family, rule.backend);
            return fmt::format("{}; kube-proxy's ACCEPT is in {} and does not stop {}", where,
                               accept ? to_string(*accept) : "another back end", table_of(rule));
        }
        case ReasonCode::jump_before_kube_services:
            return fmt::format("{}; in {} of {} the jump to {} stands before KUBE-SERVICES", where,
                               jump_hook(rule, state), to_string(rule.backend), entry_of(rule));
        case ReasonCode::nodeport_ipvs:
            return fmt::format("{}; in ipvs mode no rule keeps HostPort rules off NodePort {}: nat comes before ip_vs",
                               where, service.port);
        case ReasonCode::no_local_check:
            return fmt::format(
                "{}; the rule takes port {} of every address, it has no local check (portmap 1.6.1 to 1.8.0, "
                "CVE-2025-67499)",
                where, port_text(rule.port));
        case ReasonCode::no_accept:
            return fmt::format(
                "{}; no nat rule ACCEPTs Service addresses (kube-router and others write none), so {} takes it", where,
                entry_of(rule));
        case ReasonCode::no_endpoints:
            return fmt::format("{}; the Service has no endpoints: its REJECT comes after nat and no longer matches",
                               where);
        case ReasonCode::etp_local:
            return fmt::format(
                "{}; externalTrafficPolicy is Local and no endpoint is on this node: the Service's rules let it "
                "pass to {}",
                where, entry_of(rule));
        case ReasonCode::lb_source_ranges:
            return fmt::format("{}; the client is outside loadBalancerSourceRanges: KUBE-FW lets it pass to {}", where,
                               entry_of(rule));
        case ReasonCode::hook_order:
            return fmt::format(
                "{}; both the HostPort rule ({}) and kube-proxy's ({}) match: the nat hook registered last "
                "runs first",
                where, table_of(rule), service.backend ? to_string(*service.backend) : "rules");
        case ReasonCode::not_served_here:
            return service.kind == ServiceKind::health_check_node_port
                       ? fmt::format("{}; kube-proxy answers health checks from a socket, nat comes before it", where)
                       : fmt::format("{}; kube-proxy's rules let it pass to {}", where, entry_of(rule));
    }
    return where;
}

Advice advice_for(const Finding& finding) {
    const auto& connection = finding.connection;
    switch (finding.verdict) {
        case Verdict::hijacked:
            if (finding.service && finding.rule && finding.reason_code) {
                return hijack_advice(*finding.reason_code, *finding.service, *finding.rule, finding.leftover,
                                     finding.rule_pod, connection.original.ip);
            }
            return {};
        case Verdict::stale:
            if (connection.protocol == Protocol::tcp) {
                return {"reconnect the client: the next connection follows the current rules", {}};
            }
            return {
                fmt::format("end the flow: {}",
                            end_flows_command(connection.protocol, connection.original.ip.family, connection.client.ip,
                                              connection.original.ip, connection.original.port)),
                {}};
        case Verdict::foreign:
            return {"look for the DNAT rule that is neither kube-proxy's nor a HostPort's", {}};
        case Verdict::exposed:
        case Verdict::other:
            if (finding.rule && finding.reason_code == ReasonCode::no_local_check) {
                return {alternative(ReasonCode::no_local_check, {}, *finding.rule), {}};
            }
            return {};
        default:
            return {};
    }
}

Advice advice_for(const Conflict& conflict) {
    if (!conflict.reason_code) {
        return {};
    }
    const bool any = conflict.service.kind == ServiceKind::node_port;
    return hijack_advice(*conflict.reason_code, conflict.service, conflict.rule, conflict.leftover, conflict.rule_pod,
                         any ? std::nullopt : conflict.service.ip);
}

}  // namespace hptrace
