// SPDX-License-Identifier: GPL-2.0-or-later
#include "judge/words.hpp"

#include <fmt/format.h>

#include "judge/match.hpp"

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

std::string reconnect(Protocol protocol, Family family, const std::optional<Address>& destination, std::uint16_t port) {
    if (protocol == Protocol::tcp) {
        return "then reconnect clients: open connections stay";
    }
    return fmt::format("then end open flows: conntrack -D{} -p {} {}--orig-port-dst {}",
                       family == Family::ipv6 ? " -f ipv6" : "", to_string(protocol),
                       destination ? fmt::format("--orig-dst {} ", to_string(*destination)) : "", port);
}

Advice hijack_advice(ReasonCode code, const Service& service, const HostPortRule& rule, bool stale,
                     const std::optional<Pod>& pod, const std::optional<Address>& destination) {
    const auto after = reconnect(service.protocol, service.family, destination, service.port);
    if (stale) {
        return {fmt::format("the rule is left over (its sandbox is gone): {}; {}", removal_command(rule), after), {}};
    }
    const auto owner =
        pod ? fmt::format("owning {}", owner_text(rule, pod)) : fmt::format("behind {}", owner_text(rule, pod));
    return {fmt::format("remove hostPort {} from the workload {}, {}", port_text(rule.port), owner, after),
            alternative(code, service, rule)};
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

std::string removal_command(const HostPortRule& rule) {
    const auto* family = rule.family == Family::ipv4 ? "ip" : "ip6";
    const bool own_chain = rule.chain.starts_with("CNI-DN-") || rule.chain.starts_with("KUBE-HP-");
    if (!rule.map.empty()) {
        const auto address = rule.host_ip ? fmt::format("{} . ", to_string(rule.host_ip->address)) : std::string();
        return fmt::format("nft delete element {} {} {} {{ {}{} . {} }}", family, rule.table, rule.map, address,
                           to_string(rule.protocol), rule.port.first);
    }
    if (rule.backend == Backend::nftables) {
        return rule.handle
                   ? fmt::format("nft delete rule {} {} {} handle {}", family, rule.table, rule.chain, *rule.handle)
                   : fmt::format("nft -a list chain {} {} {}, then delete the rule by its handle", family, rule.table,
                                 rule.chain);
    }
    const auto command =
        fmt::format("{}tables-{} -t {}", family, rule.backend == Backend::iptables_legacy ? "legacy" : "nft",
                    rule.table.empty() ? "nat" : rule.table);
    if (own_chain) {
        return fmt::format("{} -F {}", command, rule.chain);  // the jump that stays then leads nowhere
    }
    const std::string_view text = rule.text;
    return fmt::format("{} -D {}", command, text.starts_with("-A ") ? text.substr(3) : text);
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
                return hijack_advice(*finding.reason_code, *finding.service, *finding.rule, finding.rule_stale,
                                     finding.rule_pod, connection.original.ip);
            }
            return {};
        case Verdict::stale:
            if (connection.protocol == Protocol::tcp) {
                return {"reconnect the client: the next connection follows the current rules", {}};
            }
            return {fmt::format("end the flow: conntrack -D{} -p {} --orig-src {} --orig-dst {} --orig-port-dst {}",
                                connection.original.ip.family == Family::ipv6 ? " -f ipv6" : "",
                                to_string(connection.protocol), to_string(connection.client.ip),
                                to_string(connection.original.ip), connection.original.port),
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
    return hijack_advice(*conflict.reason_code, conflict.service, conflict.rule, conflict.rule_stale, conflict.rule_pod,
                         any ? std::nullopt : conflict.service.ip);
}

}  // namespace hptrace
