// SPDX-License-Identifier: GPL-2.0-or-later
// kube-proxy's nftables mode, pkg/proxy/nftables/proxier.go of 1.29 to now: the base chains jump to `services`, whose
// rules look destinations up in verdict maps that lead to one chain per Service port, that (through external-,
// service-, local- and, with session affinity or before 1.33, endpoint-) to the DNAT rules. Services without endpoints
// are in the maps of the filter chains only. What no map leads to is left over, kube-proxy deletes it later.
#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "state/interpret.hpp"

namespace hptrace {
namespace {

// Does it look at nothing but destination addresses (and what a map is asked for)?
bool asks_for_destinations_only(const Rule& rule) {
    return !rule.family && !rule.l4proto && rule.sources.empty() && rule.source_ports.empty() &&
           rule.destination_ports.empty() && !rule.in_interface && !rule.out_interface && !rule.source_local &&
           rule.conditions.empty();
}

bool asks_for_nothing(const Rule& rule) {
    return asks_for_destinations_only(rule) && rule.destinations.empty() && !rule.destination_local &&
           rule.sets.empty();
}

// "service-ULMVA6XW-ns1/svc1/tcp/p80"; an unnamed port's name is empty. A long one is cut off and ends in "...".
std::optional<ServiceName> name_of_chain(std::string_view chain) {
    constexpr std::size_t hash_size = 8;
    const auto dash = chain.find('-');
    if (dash == std::string_view::npos || chain.size() <= dash + 1 + hash_size || chain[dash + 1 + hash_size] != '-' ||
        chain.ends_with("...")) {
        return std::nullopt;
    }
    chain.remove_prefix(dash + hash_size + 2);
    std::array<std::string_view, 4> parts;  // namespace, name, protocol, port
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const auto slash = chain.find('/');
        if ((slash == std::string_view::npos) != (i + 1 == parts.size())) {
            return std::nullopt;
        }
        parts.at(i) = chain.substr(0, slash);
        chain.remove_prefix(slash == std::string_view::npos ? chain.size() : slash + 1);
    }
    if (parts[0].empty() || parts[1].empty()) {
        return std::nullopt;
    }
    return ServiceName{std::string(parts[0]), std::string(parts[1]), std::string(parts[3])};
}

// The comment of a Service without endpoints. As long as nft lets it be, it may have been cut off.
std::optional<ServiceName> name_of_comment(std::string_view comment) {
    constexpr std::size_t longest = 128;
    return comment.size() >= longest ? std::nullopt : parse_service_name(comment);
}

struct ChainSummary {
    std::vector<Endpoint> endpoints;  // sorted
    bool persistent = false;
    bool external_local = false;
    bool handles_outside = false;
};

using Fields = std::vector<LookupField>;

class Interpreter {
public:
    Interpreter(const TableView& view, ServiceCollector& services, UnreadRules& unread, Work& work)
        : view_(view), services_(services), unread_(unread), work_(work), family_(view.table().families.front()) {
        cluster_ips_ = set_with_key("cluster-ips", {address_part()});
        if (cluster_ips_ != nullptr) {
            unread_.add_if_not_whole(view_, *cluster_ips_);
            for (const SetElement& element : cluster_ips_->elements) {
                cluster_ip_.insert(element.key.ip);
            }
        }
        // Not whole: at worst an address a load balancer gave out counts as an external one.
        if (const NftSet* limited = set_with_key("firewall-ips", destination_key())) {
            for (const SetElement& element : limited->elements) {
                limited_.insert(element.key);
            }
        }
    }

    bool interpret() {
        const Chain* services = view_.find("services");
        if (services == nullptr || !(view_.leads_to(view_.base("PREROUTING"), "services") ||
                                     view_.leads_to(view_.base("OUTPUT"), "services"))) {
            return false;
        }
        for (const Rule& rule : view_.rules(*services)) {
            if (!add_services(rule)) {
                unread_.add(view_, *services, rule);
            }
        }
        add_without_endpoints();
        return true;
    }

private:
    [[nodiscard]] SetPart address_part() const {
        return family_ == Family::ipv4 ? SetPart::ipv4_address : SetPart::ipv6_address;
    }
    [[nodiscard]] std::vector<SetPart> destination_key() const {
        return {address_part(), SetPart::protocol, SetPart::port};
    }
    [[nodiscard]] const NftSet* set_with_key(std::string_view name, const std::vector<SetPart>& key) const {
        const NftSet* set = view_.find_set(name);
        return set != nullptr && set->key == key ? set : nullptr;
    }

    // What a rule of `services` does with destinations. False: not understood.
    bool add_services(const Rule& rule) {
        if (!rule.unread.empty()) {
            return false;
        }
        if (rule.target.kind == TargetKind::mark || rule.target.kind == TargetKind::none) {
            return true;  // masquerades
        }
        if (rule.target.kind != TargetKind::verdict_map || !asks_for_destinations_only(rule)) {
            return false;
        }
        const MapLookup& lookup = rule.maps.front();
        const NftSet* map = view_.find_set(lookup.map);
        if (map == nullptr) {
            return false;
        }
        const bool addresses = lookup.key == Fields{LookupField::destination_address, LookupField::protocol,
                                                    LookupField::destination_port};
        const bool node_ports = lookup.key == Fields{LookupField::protocol, LookupField::destination_port};
        if (addresses ? !asks_for_nothing(rule) : !node_ports || !add_scopes(rule)) {
            return false;
        }
        unread_.add_if_not_whole(view_, *map);
        for (const SetElement& element : map->elements) {
            if (!work_.spend(1)) {
                return false;
            }
            if (!(addresses ? add_address(element) : add_node_port(element))) {
                unread_.add(view_, *map, element);
            }
        }
        return true;
    }

    // `ip daddr @nodeport-ips`, or `fib daddr type local ip daddr != 127.0.0.0/8`.
    bool add_scopes(const Rule& rule) {
        const bool no_loopback = std::ranges::any_of(
            rule.destinations, [](const Match<Prefix>& match) { return match.value.address.is_loopback(); });
        if (rule.sets.empty()) {
            const bool understood =
                rule.destination_local == true && std::ranges::all_of(rule.destinations, [](const auto& match) {
                    return match.inverted && match.value.address.is_loopback();
                });
            scopes_.push_back({.ip = std::nullopt, .on_loopback = !no_loopback});
            return understood;
        }
        const auto& [match, inverted] = rule.sets.front();
        const NftSet* addresses = set_with_key(match.set, {address_part()});
        if (rule.sets.size() != 1 || inverted || match.source != std::vector<bool>{false} || addresses == nullptr ||
            !rule.destinations.empty() || rule.destination_local) {
            return false;
        }
        unread_.add_if_not_whole(view_, *addresses);
        for (const SetElement& element : addresses->elements) {
            scopes_.push_back({.ip = element.key.ip, .on_loopback = false});
        }
        return true;
    }

    std::optional<Service> new_service(const SetElement& element) const {
        const auto protocol = protocol_from_number(element.key.protocol);
        if (!protocol) {
            return std::nullopt;
        }
        Service service;
        service.proxy = ServiceProxy::nftables;
        service.family = family_;
        service.port = element.key.port;
        service.protocol = *protocol;
        service.backend = Backend::nftables;
        return service;
    }

    // The rules tell ClusterIPs from others. Of these a load balancer's can be known by its source ranges only; all
    // others count as external IPs, which kube-proxy treats alike.
    [[nodiscard]] ServiceKind kind_of(const SetElement::Key& key, std::string_view chain) const {
        const bool cluster = cluster_ips_ != nullptr ? cluster_ip_.contains(key.ip) : !chain.starts_with("external-");
        if (cluster) {
            return ServiceKind::cluster_ip;
        }
        return limited_.contains(key) ? ServiceKind::load_balancer : ServiceKind::external_ip;
    }

    // The chain the element leads to; null: it does something else.
    [[nodiscard]] const Chain* chain_of(const SetElement& element) const {
        const bool leads_on = element.verdict == TargetKind::go_to || element.verdict == TargetKind::jump;
        return leads_on ? view_.find(element.chain) : nullptr;
    }

    bool add_address(const SetElement& element) {
        const Chain* chain = chain_of(element);
        auto service = new_service(element);
        if (chain == nullptr || !service) {
            return false;
        }
        service->kind = kind_of(element.key, chain->name);
        service->ip = element.key.ip;
        service->name = name_of_chain(chain->name);
        return add(*std::move(service), *chain);
    }

    bool add_node_port(const SetElement& element) {
        const Chain* chain = chain_of(element);
        const auto service = new_service(element);
        if (chain == nullptr || !service) {
            return false;
        }
        return std::ranges::all_of(scopes_, [&](const NodePortScope& scope) {
            auto node_port = at_node_port(*service, scope);
            node_port.name = name_of_chain(chain->name);
            return add(std::move(node_port), *chain);
        });
    }

    static Service at_node_port(Service service, const NodePortScope& scope) {
        service.kind = ServiceKind::node_port;
        service.ip = scope.ip;
        service.on_loopback = scope.on_loopback;
        return service;
    }

    // False: there are more Services or endpoints than are followed.
    bool add(Service&& found, const Chain& chain) {
        auto* const known = services_.at(std::move(found));
        const ChainSummary& summary = summarize(chain, 0);
        if (known == nullptr || !work_.spend(1 + summary.endpoints.size())) {
            return false;
        }
        auto& service = *known;
        service.endpoints = summary.endpoints;
        service.persistent = summary.persistent;
        service.external_local = summary.external_local;
        service.handles_outside = summary.handles_outside;
        return true;
    }

    // Destinations that get a REJECT or, with a traffic policy Local, a DROP for want of endpoints. An external one may
    // be in the other maps too, for clients on this node.
    void add_without_endpoints() {
        if (const NftSet* map = filter_map("no-endpoint-services", destination_key())) {
            for (const SetElement& element : map->elements) {
                if (auto service = new_service(element)) {
                    service->kind = kind_of(element.key, "");
                    service->ip = element.key.ip;
                    service->name = name_of_comment(element.comment);
                    if (services_.at(*std::move(service)) == nullptr) {
                        unread_.add(view_, *map, element);
                        break;
                    }
                } else {
                    unread_.add(view_, *map, element);
                }
            }
        }
        if (const NftSet* map = filter_map("no-endpoint-nodeports", {SetPart::protocol, SetPart::port})) {
            for (const SetElement& element : map->elements) {
                const auto service = new_service(element);
                if (!service) {
                    unread_.add(view_, *map, element);
                    continue;
                }
                const bool all = std::ranges::all_of(scopes_, [&](const NodePortScope& scope) {
                    auto node_port = at_node_port(*service, scope);
                    node_port.name = name_of_comment(element.comment);
                    return services_.at(std::move(node_port)) != nullptr;
                });
                if (!all) {
                    unread_.add(view_, *map, element);
                }
            }
        }
    }

    // A map of the filter chains; null: there is none of this type, so the rule that asks it is not understood.
    const NftSet* filter_map(std::string_view name, const std::vector<SetPart>& key) {
        const NftSet* map = set_with_key(name, key);
        if (map != nullptr && map->data == SetData::verdict) {
            unread_.add_if_not_whole(view_, *map);
            return map;
        }
        for (const std::string_view asking :
             {"endpoints-check", "service-endpoints-check", "nodeport-endpoints-check"}) {
            if (const Chain* chain = view_.find(asking)) {
                for (const Rule& rule : view_.rules(*chain)) {
                    if (!rule.unread.empty()) {
                        unread_.add(view_, *chain, rule);
                    }
                }
            }
        }
        return nullptr;
    }

    // Every DNAT target reachable from the chain. Each chain is looked at once; a cycle adds nothing.
    const ChainSummary& summarize(const Chain& chain, int depth) {
        const auto [found, is_new] = summaries_.try_emplace(&chain);
        ChainSummary& summary = found->second;
        if (!is_new || depth > max_depth) {
            return summary;
        }
        for (const Rule& rule : view_.rules(chain)) {
            if (!rule.unread.empty() || is_other_nat(rule)) {
                unread_.add(view_, chain, rule);
            }
            // update @affinity-… { ip saddr }
            summary.persistent =
                summary.persistent || std::ranges::find(rule.conditions, "dynset") != rule.conditions.end();
            if (rule.target.kind == TargetKind::dnat && rule.target.to) {
                summary.endpoints.push_back(*rule.target.to);
            }
            for (const MapLookup& lookup : rule.maps) {
                follow(lookup, chain, rule, summary, depth);
            }
            if (const Chain* to = view_.jump_of(rule)) {
                follow(*to, chain, rule, summary, depth);
                note_policy(chain, rule, summary);
            }
        }
        std::ranges::sort(summary.endpoints);
        const auto rest = std::ranges::unique(summary.endpoints);
        summary.endpoints.erase(rest.begin(), rest.end());
        return summary;
    }

    // A DNAT whose target is no single address and port, or a REDIRECT.
    static bool is_other_nat(const Rule& rule) {
        const Target& target = rule.target;
        if (target.kind == TargetKind::redirect) {
            return true;
        }
        return target.kind == TargetKind::dnat &&
               (target.to ? target.to->ip.is_unspecified() || target.to_last.has_value() : rule.maps.empty());
    }

    void follow(const MapLookup& lookup, const Chain& chain, const Rule& rule, ChainSummary& summary, int depth) {
        if (!lookup.map.empty()) {  // endpoints are in maps of their own only
            unread_.add(view_, chain, rule);
            return;
        }
        for (const SetElement& element : lookup.elements) {
            if (lookup.data != SetData::verdict) {
                summary.endpoints.push_back(element.to);
            } else if (const Chain* to = chain_of(element)) {
                follow(*to, chain, rule, summary, depth);
            } else {
                unread_.add(view_, chain, rule);
            }
        }
    }

    void follow(const Chain& to, const Chain& chain, const Rule& rule, ChainSummary& summary, int depth) {
        const ChainSummary& next = summarize(to, depth + 1);
        if (&next != &summary && !work_.spend(next.endpoints.size())) {
            unread_.add_rest(view_, chain, rule, "more endpoints behind it than are followed");
        } else if (&next != &summary) {
            summary.endpoints.insert(summary.endpoints.end(), next.endpoints.begin(), next.endpoints.end());
            summary.persistent = summary.persistent || next.persistent;
        }
    }

    // external- chains of externalTrafficPolicy Local send clients of this node ("short-circuit local traffic") to all
    // endpoints, and all others to those that are here, if there are any.
    static void note_policy(const Chain& chain, const Rule& rule, ChainSummary& summary) {
        if (chain.name.starts_with("external-")) {
            summary.external_local = summary.external_local || rule.source_local == true;
            summary.handles_outside =
                summary.handles_outside || (asks_for_nothing(rule) && rule.target.name.starts_with("local-"));
        }
    }

    static constexpr int max_depth = 32;

    const TableView& view_;
    ServiceCollector& services_;
    UnreadRules& unread_;
    Work& work_;
    Family family_;
    const NftSet* cluster_ips_ = nullptr;  // since 1.30
    std::unordered_set<Address> cluster_ip_;
    std::set<SetElement::Key> limited_;  // destinations with loadBalancerSourceRanges
    std::vector<NodePortScope> scopes_;
    std::unordered_map<const Chain*, ChainSummary> summaries_;  // references to its values stay valid
};

}  // namespace

bool interpret_kube_nftables(const TableView& table, ServiceCollector& services, UnreadRules& unread, Work& work) {
    return Interpreter(table, services, unread, work).interpret();
}

}  // namespace hptrace
