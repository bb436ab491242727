// SPDX-License-Identifier: GPL-2.0-or-later
// kube-proxy's iptables mode, pkg/proxy/iptables/proxier.go of 1.14 to now: KUBE-SERVICES and KUBE-NODEPORTS lead to
// one chain per Service port, that (through KUBE-EXT, -FW, -XLB, -SVL) to KUBE-SEP chains with the DNAT rules. Services
// without endpoints exist in the filter table only. The ipvs mode is recognised by its ipset matches.
#include <algorithm>
#include <array>
#include <deque>
#include <optional>
#include <string_view>
#include <utility>

#include "state/interpret.hpp"

namespace hptrace {
namespace {

bool starts_with_any(std::string_view text, std::initializer_list<std::string_view> prefixes) {
    return std::ranges::any_of(prefixes, [text](std::string_view prefix) { return text.starts_with(prefix); });
}

bool is_service_chain(std::string_view chain) {
    return starts_with_any(chain, {"KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-"});
}

// A comment that ends in `suffix`: what stands before it.
std::optional<std::string_view> before(std::string_view comment, std::string_view suffix) {
    if (!comment.ends_with(suffix)) {
        return std::nullopt;
    }
    comment.remove_suffix(suffix.size());
    return comment;
}

struct KindSuffix {
    std::string_view suffix;
    ServiceKind kind;
};
constexpr std::array kind_suffixes{
    KindSuffix{" cluster IP", ServiceKind::cluster_ip},
    KindSuffix{" external IP", ServiceKind::external_ip},
    KindSuffix{" loadbalancer IP", ServiceKind::load_balancer},
};

// Protocol and port of a rule for exactly one of each.
struct Port {
    Protocol protocol;
    std::uint16_t number;
};
std::optional<Port> port_of(const Rule& rule) {
    if (!rule.l4proto || rule.l4proto->inverted || rule.destination_ports.size() != 1) {
        return std::nullopt;
    }
    const auto protocol = protocol_from_number(rule.l4proto->value);
    const PortMatch& match = rule.destination_ports.front();
    if (!protocol || match.inverted || match.any_of.size() != 1 ||
        match.any_of.front().first != match.any_of.front().last) {
        return std::nullopt;
    }
    return Port{*protocol, match.any_of.front().first};
}

// The one address a rule is for; nothing: none, a network, or all but some.
std::optional<Address> address_of(const Rule& rule) {
    if (rule.destinations.size() != 1) {
        return std::nullopt;
    }
    const auto& [prefix, inverted] = rule.destinations.front();
    const std::uint8_t host = prefix.address.family == Family::ipv4 ? 32 : 128;
    return inverted || prefix.length != host ? std::nullopt : std::optional(prefix.address);
}

struct ChainSummary {
    std::vector<Endpoint> endpoints;  // sorted
    bool persistent = false;
    bool external_local = false;
    bool handles_outside = false;
    std::vector<Prefix> allowed_sources;  // of a KUBE-FW chain
};

constexpr std::string_view too_many_services = "more Services than are followed";

class NatInterpreter {
public:
    NatInterpreter(const TableView& view, ServiceCollector& services, UnreadRules& unread, Work& work)
        : view_(view),
          services_(services),
          unread_(unread),
          work_(work),
          family_(view.table().families.front()),
          summary_of_(view.table().chains.size()) {}

    // True if the chains are those of kube-proxy's iptables mode.
    bool interpret() {
        const Chain* services = view_.find("KUBE-SERVICES");
        const Chain* node_ports = view_.find("KUBE-NODEPORTS");
        bool found = false;
        for (const Rule& rule : view_.rules(*services)) {
            const Chain* to = view_.jump_of(rule);
            if (to != nullptr && to == node_ports) {
                add_scope(*services, rule);
                found = true;
            } else if (to != nullptr && is_service_chain(to->name)) {
                add_service(*services, rule, *to);
                found = true;
            }
        }
        if (found && node_ports != nullptr) {
            for (const Rule& rule : view_.rules(*node_ports)) {
                add_node_ports(*node_ports, rule);
            }
        }
        return found;
    }

    [[nodiscard]] const std::vector<NodePortScope>& scopes() const { return scopes_; }

private:
    Service new_service(ServiceKind kind, Port port) const {
        Service service;
        service.kind = kind;
        service.proxy = ServiceProxy::iptables;
        service.family = family_;
        service.port = port.number;
        service.protocol = port.protocol;
        service.backend = view_.table().backend;
        return service;
    }

    void add_scope(const Chain& chain, const Rule& rule) {
        if (!rule.unread.empty()) {
            unread_.add(view_, chain, rule);
            return;
        }
        const auto ip = address_of(rule);
        const bool loopback_excluded = std::ranges::any_of(rule.destinations, [](const Match<Prefix>& match) {
            return match.inverted && match.value.address.is_loopback();
        });
        scopes_.push_back({ip, !ip && !loopback_excluded});
    }

    void add_service(const Chain& chain, const Rule& rule, const Chain& to) {
        const auto port = port_of(rule);
        const auto ip = address_of(rule);
        if (!rule.unread.empty() || !port || !ip) {
            unread_.add(view_, chain, rule);
            return;
        }
        ServiceKind kind =
            starts_with_any(to.name, {"KUBE-SVC-", "KUBE-SVL-"}) ? ServiceKind::cluster_ip : ServiceKind::load_balancer;
        std::optional<ServiceName> name;
        for (const auto& [suffix, kind_of_suffix] : kind_suffixes) {
            if (const auto text = before(rule.comment, suffix)) {
                kind = kind_of_suffix;
                name = parse_service_name(*text);
            }
        }
        Service service = new_service(kind, *port);
        service.ip = ip;
        service.name = std::move(name);
        add(std::move(service), to, chain, rule);
    }

    void add_node_ports(const Chain& node_ports, const Rule& rule) {
        const Chain* to = view_.jump_of(rule);
        if (to == nullptr || !is_service_chain(to->name)) {
            return;  // inline KUBE-MARK-MASQ of 1.14 to 1.21
        }
        const auto port = port_of(rule);
        if (!rule.unread.empty() || !port) {
            unread_.add(view_, node_ports, rule);
            return;
        }
        for (const NodePortScope& scope : scopes_) {
            Service service = new_service(ServiceKind::node_port, *port);
            service.ip = scope.ip;
            service.on_loopback = scope.on_loopback;
            service.name = parse_service_name(rule.comment);
            if (!add(std::move(service), *to, node_ports, rule)) {
                return;
            }
        }
    }

    // `from`, `rule`: what leads to the chain of the Service. False: there are more than are followed.
    bool add(Service&& service, const Chain& chain, const Chain& from, const Rule& rule) {
        auto* const known = services_.at(std::move(service));
        if (known == nullptr) {
            unread_.add_rest(view_, from, rule, too_many_services);
            return false;
        }
        fill(*known, chain, from, rule);
        return true;
    }

    void fill(Service& service, const Chain& chain, const Chain& from, const Rule& rule) {
        const ChainSummary& summary = summarize(chain, 0);
        if (!work_.spend(1 + service.endpoints.size() + summary.endpoints.size() + summary.allowed_sources.size())) {
            unread_.add_rest(view_, from, rule, too_many_behind);
            return;
        }
        std::vector<Endpoint> endpoints;
        std::ranges::set_union(service.endpoints, summary.endpoints, std::back_inserter(endpoints));
        service.endpoints = std::move(endpoints);
        service.persistent = service.persistent || summary.persistent;
        service.external_local =
            service.external_local || (summary.external_local && service.kind != ServiceKind::cluster_ip);
        service.handles_outside = service.handles_outside || summary.handles_outside;
        if (chain.name.starts_with("KUBE-FW-")) {
            service.allowed_sources = summary.allowed_sources;
        }
    }

    // Every DNAT target reachable from the chain. Each chain is looked at once; a cycle adds nothing.
    const ChainSummary& summarize(const Chain& chain, int depth) {
        ChainSummary*& known = summary_of_[view_.place_of(chain)];
        if (known != nullptr) {
            return *known;
        }
        ChainSummary& summary = summaries_.emplace_back();
        known = &summary;
        if (depth > max_depth) {
            return summary;
        }
        summary.external_local = chain.name.starts_with("KUBE-XLB-");
        bool drops = false;
        for (const Rule& rule : view_.rules(chain)) {
            if (!rule.unread.empty()) {
                unread_.add(view_, chain, rule);
            }
            summary.persistent =
                summary.persistent || std::ranges::find(rule.conditions, "-m recent") != rule.conditions.end();
            if (rule.target.kind == TargetKind::dnat && rule.target.to && !rule.target.to->ip.is_unspecified()) {
                summary.endpoints.push_back(*rule.target.to);
            }
            const Chain* to = view_.jump_of(rule);
            drops = drops || marks_to_drop(to);
            if (to == nullptr || !(is_service_chain(to->name) || to->name.starts_with("KUBE-SEP-"))) {
                continue;
            }
            // "route LOCAL traffic for … external destinations": only externalTrafficPolicy Local needs it.
            summary.external_local =
                summary.external_local || (chain.name.starts_with("KUBE-EXT-") && rule.source_local);
            summary.handles_outside = summary.handles_outside || leads_to_local_endpoint(chain, *to);
            const ChainSummary& next = summarize(*to, depth + 1);
            if (&next != &summary && !work_.spend(next.endpoints.size())) {
                unread_.add_rest(view_, chain, rule, too_many_behind);
            } else if (&next != &summary) {
                summary.endpoints.insert(summary.endpoints.end(), next.endpoints.begin(), next.endpoints.end());
                summary.persistent = summary.persistent || next.persistent;
                summary.external_local = summary.external_local || next.external_local;
                summary.handles_outside = summary.handles_outside || next.handles_outside;
            }
        }
        summary.handles_outside = summary.handles_outside || (drops && summary.external_local);
        if (chain.name.starts_with("KUBE-FW-")) {
            summary.allowed_sources = allowed_sources(chain);
        }
        std::ranges::sort(summary.endpoints);
        const auto rest = std::ranges::unique(summary.endpoints);
        summary.endpoints.erase(rest.begin(), rest.end());
        return summary;
    }

    // The chains of a policy Local that hold the endpoints of this node only.
    static bool leads_to_local_endpoint(const Chain& chain, const Chain& to) {
        return (chain.name.starts_with("KUBE-EXT-") && to.name.starts_with("KUBE-SVL-")) ||
               (chain.name.starts_with("KUBE-XLB-") && to.name.starts_with("KUBE-SEP-"));
    }

    // Until 1.24 what is not served is marked in nat and dropped in the filter table, whatever became of it in nat.
    static bool marks_to_drop(const Chain* to) { return to != nullptr && to->name == "KUBE-MARK-DROP"; }

    // Whom a KUBE-FW chain lets in, if it leaves all others to the next nat rule; else nobody.
    [[nodiscard]] std::vector<Prefix> allowed_sources(const Chain& chain) const {
        std::vector<Prefix> allowed;
        for (const Rule& rule : view_.rules(chain)) {
            const Chain* to = view_.jump_of(rule);
            if (marks_to_drop(to)) {
                return {};
            }
            if (to == nullptr || !is_service_chain(to->name)) {
                continue;
            }
            if (rule.sources.size() != 1 || rule.sources.front().inverted) {
                return {};  // anyone gets in
            }
            allowed.push_back(rule.sources.front().value);
        }
        return allowed;
    }

    static constexpr int max_depth = 32;
    static constexpr std::string_view too_many_behind = "more endpoints or source ranges behind it than are followed";

    const TableView& view_;
    ServiceCollector& services_;
    UnreadRules& unread_;
    Work& work_;
    Family family_;
    std::vector<NodePortScope> scopes_;
    std::deque<ChainSummary> summaries_;
    std::vector<ChainSummary*> summary_of_;  // by the chain's place; null: it was not looked at
};

// Services without endpoints, and health check node ports: the filter table's.
void interpret_filter(const TableView& view, const std::vector<NodePortScope>& scopes, ServiceCollector& services,
                      UnreadRules& unread) {
    const auto any_local = std::ranges::find_if(scopes, [](const NodePortScope& scope) { return !scope.ip; });
    const bool on_loopback = any_local != scopes.end() && any_local->on_loopback;
    const auto add = [&](const Chain& chain, const Rule& rule, std::string_view name, ServiceKind kind, bool local) {
        const auto port = port_of(rule);
        if (!port || !rule.unread.empty()) {
            unread.add(view, chain, rule);
            return;
        }
        Service service;
        service.ip = address_of(rule);
        service.kind = kind;
        if (!service.ip && kind != ServiceKind::health_check_node_port) {
            service.kind = ServiceKind::node_port;
        }
        service.family = view.table().families.front();
        service.on_loopback = kind == ServiceKind::health_check_node_port || (!service.ip && on_loopback);
        service.port = port->number;
        service.protocol = port->protocol;
        service.name = parse_service_name(name);
        service.backend = view.table().backend;
        if (auto* const known = services.at(std::move(service)); known != nullptr) {
            known->external_local = known->external_local || local;
        } else {
            unread.add_rest(view, chain, rule, too_many_services);
        }
    };
    for (const std::string_view name : {"KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS"}) {
        const Chain* chain = view.find(name);
        if (chain == nullptr) {
            continue;
        }
        const ServiceKind kind = name == "KUBE-SERVICES" ? ServiceKind::cluster_ip : ServiceKind::external_ip;
        for (const Rule& rule : view.rules(*chain)) {
            if (const auto service = before(rule.comment, " has no endpoints")) {
                add(*chain, rule, *service, kind, false);
            } else if (const auto local = before(rule.comment, " has no local endpoints")) {
                add(*chain, rule, *local, kind, kind != ServiceKind::cluster_ip);
            } else if (const auto health = before(rule.comment, " health check node port")) {
                add(*chain, rule, *health, ServiceKind::health_check_node_port, false);
            }
        }
    }
}

// kube-proxy's ipvs mode: rules that match its ipsets, and KUBE-NODE-PORT (iptables mode: KUBE-NODEPORTS).
bool is_ipvs_mode(const TableView& view, const Chain& kube_services) {
    return view.leads_to(&kube_services, "KUBE-NODE-PORT") ||
           std::ranges::any_of(view.rules(kube_services), [](const Rule& rule) {
               return std::ranges::any_of(
                   rule.sets, [](const Match<SetMatch>& match) { return match.value.set.starts_with("KUBE-"); });
           });
}

}  // namespace

void interpret_services(const std::vector<TableView>& tables, NodeState& state, UnreadRules& unread, Work& work) {
    ServiceCollector services(state, work);
    bool iptables_mode = false;
    bool ipvs_mode = false;
    bool nftables_mode = false;
    // Scopes of node ports by family: the filter table's rules do not repeat them.
    std::map<Family, std::vector<NodePortScope>> scopes;
    for (const TableView& view : tables) {
        if (view.table().backend == Backend::nftables && view.table().name == "kube-proxy") {
            nftables_mode = interpret_kube_nftables(view, services, unread, work) || nftables_mode;
        }
        const Chain* kube_services = view.find("KUBE-SERVICES");
        // Chains nobody jumps to are leftovers of a kube-proxy that ran before.
        if (!view.is_xtables() || view.table().name != "nat" || kube_services == nullptr ||
            !(view.leads_to(view.base("PREROUTING"), "KUBE-SERVICES") ||
              view.leads_to(view.base("OUTPUT"), "KUBE-SERVICES"))) {
            continue;
        }
        NatInterpreter interpreter(view, services, unread, work);
        if (interpreter.interpret()) {
            iptables_mode = true;
            auto& known = scopes[view.table().families.front()];
            known.insert(known.end(), interpreter.scopes().begin(), interpreter.scopes().end());
        } else if (is_ipvs_mode(view, *kube_services)) {
            ipvs_mode = true;
            for (const Rule& rule : view.rules(*kube_services)) {
                if (!rule.unread.empty()) {
                    unread.add(view, *kube_services, rule);
                }
            }
        }
    }
    if (iptables_mode) {
        for (const TableView& view : tables) {
            if (view.is_xtables() && view.table().name == "filter") {
                interpret_filter(view, scopes[view.table().families.front()], services, unread);
            }
        }
    }
    if (iptables_mode) {
        state.proxy = ProxyMode::iptables;
    } else if (ipvs_mode) {
        state.proxy = ProxyMode::ipvs;
    } else if (nftables_mode) {
        state.proxy = ProxyMode::nftables;
    }
}

}  // namespace hptrace
