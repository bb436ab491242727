// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/interpret.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <tuple>
#include <utility>

#include "base/excerpt.hpp"
#include "state/rule_text.hpp"
#include "state/rules_part.hpp"

namespace hptrace {
namespace {

// Position of the first rule that jumps to a chain `wanted` accepts; -1: none.
template <class Wanted>
int position(const TableView& view, const Chain& chain, Wanted wanted) {
    int position = 0;
    for (const Rule& rule : view.rules(chain)) {
        if ((rule.target.kind == TargetKind::jump || rule.target.kind == TargetKind::go_to) &&
            wanted(rule.target.name)) {
            return position;
        }
        ++position;
    }
    return -1;
}

JumpOrder jump_order(const TableView& view, const Chain* chain) {
    if (chain == nullptr) {
        return {};
    }
    JumpOrder order{position(view, *chain, [](std::string_view name) { return name == "KUBE-SERVICES"; }),
                    position(view, *chain, [](std::string_view name) { return name == "CNI-HOSTPORT-DNAT"; })};
    if (order.hostport == -1) {  // of several producers portmap is the one Kubernetes uses
        order.hostport =
            position(view, *chain, [](std::string_view name) { return producer_of_entry_chain(name).has_value(); });
    }
    return order;
}

// acceptIPVSTraffic() of kube-proxy's ipvs proxier: -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT.
bool accepts_cluster_ips(const TableView& view) {
    const Chain* kube_services = view.find("KUBE-SERVICES");
    if (kube_services == nullptr) {
        return false;
    }
    return std::ranges::any_of(view.rules(*kube_services), [](const Rule& rule) {
        if (rule.target.kind != TargetKind::accept || rule.sets.size() != 1 || !rule.unread.empty()) {
            return false;
        }
        const auto& [match, inverted] = rule.sets.front();
        return !inverted && (match.set == "KUBE-CLUSTER-IP" || match.set == "KUBE-6-CLUSTER-IP") &&
               match.source == std::vector<bool>{false, false} && rule.sources.empty() && rule.destinations.empty() &&
               rule.conditions.empty() && !rule.l4proto && !rule.source_local && !rule.destination_local;
    });
}

// The protocol and the ports a rule is for, as far as it was understood: what was not can only narrow that.
std::optional<Protocol> protocol_of(const Rule& rule) {
    return rule.l4proto && !rule.l4proto->inverted ? protocol_from_number(rule.l4proto->value) : std::nullopt;
}

std::vector<PortRange> ports_of(const Rule& rule) {
    const auto straight =
        std::ranges::find_if(rule.destination_ports, [](const PortMatch& match) { return !match.inverted; });
    return straight == rule.destination_ports.end() ? std::vector<PortRange>{} : straight->any_of;
}

NatTable nat_table(const TableView& view) {
    return {.backend = view.table().backend,
            .family = view.table().families.front(),
            .prerouting = jump_order(view, view.base("PREROUTING")),
            .output = jump_order(view, view.base("OUTPUT")),
            .ipvs_accept = accepts_cluster_ips(view)};
}

}  // namespace

TableView::TableView(const RuleTable& table) : table_(&table) {
    if (table.legacy == nullptr) {  // there jumps are found without names, and few chains are asked for by theirs
        chains_.reserve(table.chains.size());
        for (const Chain& chain : table.chains) {
            chains_.emplace(chain.name, &chain);
        }
    }
    for (const NftSet& set : table.sets) {
        sets_.emplace(set.name, &set);
    }
}

const Chain* TableView::find(std::string_view chain) const {
    if (table_->legacy != nullptr) {
        const auto place = table_->legacy->find(chain);
        return place ? &table_->chains[*place] : nullptr;
    }
    const auto found = chains_.find(chain);
    return found == chains_.end() ? nullptr : found->second;
}

std::size_t TableView::rule_count() const {
    if (table_->legacy != nullptr) {
        return table_->legacy->size();
    }
    std::size_t count = 0;
    for (const Chain& chain : table_->chains) {
        count += chain.rules.size();
    }
    return count;
}

const void* TableView::identity(const Rule& rule) const {
    return table_->legacy != nullptr ? table_->legacy->address_of(rule.legacy->offset) : &rule;
}

const Chain* TableView::jump_of(const Rule& rule) const {
    if (rule.target.kind != TargetKind::jump && rule.target.kind != TargetKind::go_to) {
        return nullptr;
    }
    return rule.legacy ? &table_->chains[*rule.legacy->chain] : find(rule.target.name);
}

const NftSet* TableView::find_set(std::string_view set) const {
    const auto found = sets_.find(set);
    return found == sets_.end() ? nullptr : found->second;
}

const Chain* TableView::base(std::string_view hook) const {
    const auto found = std::ranges::find_if(table_->chains, [hook](const Chain& chain) {
        return chain.hook == hook && (chain.type.empty() || chain.type == "nat");
    });
    return found == table_->chains.end() ? nullptr : &*found;
}

Work work_for(const std::vector<TableView>& tables) {
    constexpr std::size_t per_rule = 256;
    std::size_t units = std::size_t{4} << 20U;
    for (const TableView& view : tables) {
        units += per_rule * view.rule_count();
        for (const NftSet& set : view.table().sets) {
            units += per_rule * set.elements.size();
        }
    }
    return Work(units);
}

// What a message tells of a rule: all of those that exist.
std::string UnreadRules::text_of(const TableView& table, const Chain& chain, const Rule& rule) {
    constexpr std::size_t longest = 2000;
    return excerpt(rule_text(table.table().backend, chain.name, rule), longest);
}

void UnreadRules::add(const TableView& table, const Chain& chain, const Rule& rule) {
    if (seen_.insert(table.identity(rule)).second) {
        rules_.push_back({.backend = table.table().backend,
                          .family = rule.family.value_or(table.table().families.front()),
                          .chain = chain.name,
                          .text = text_of(table, chain, rule),
                          .protocol = protocol_of(rule),
                          .ports = ports_of(rule)});
    }
}

void UnreadRules::add_rest(const TableView& table, const Chain& chain, const Rule& rule, std::string_view why) {
    if (seen_.insert(&chain).second) {
        rules_.push_back({.backend = table.table().backend,
                          .family = rule.family.value_or(table.table().families.front()),
                          .chain = chain.name,
                          .text = fmt::format("{}, and what is behind it ({})", text_of(table, chain, rule), why)});
    }
}

void UnreadRules::add(const TableView& table, const NftSet& set, const SetElement& element) {
    auto* const added =
        add_to_set(table, set, &element, fmt::format("element {}", element_text(set.key, set.data, element)));
    if (added != nullptr && element.key.port != 0) {
        added->protocol = protocol_from_number(element.key.protocol);
        added->ports = {{element.key.port, element.key.port}};
    }
}

void UnreadRules::add_if_not_whole(const TableView& table, const NftSet& set) {
    if (!set.whole) {
        add_to_set(table, set, &set, "an element of another kind");
    }
}

UnreadRule* UnreadRules::add_to_set(const TableView& table, const NftSet& set, const void* what, std::string text) {
    if (!seen_.insert(what).second) {
        return nullptr;
    }
    return &rules_.emplace_back(UnreadRule{.backend = table.table().backend,
                                           .family = table.table().families.front(),
                                           .chain = set.name,
                                           .text = std::move(text)});
}

std::size_t ServiceCollector::Hash::operator()(const Key& key) const noexcept {
    return std::hash<Endpoint>{}(key.destination) ^ (static_cast<std::size_t>(key.protocol) << 1U);
}

Service* ServiceCollector::at(Service&& service) {
    constexpr std::size_t units = 64;  // it is large, and has texts
    if (!work_.spend(units)) {
        return nullptr;
    }
    const Key key{{service.ip.value_or(Address{service.family, {}}), service.port}, service.protocol};
    const auto [found, is_new] = places_.try_emplace(key, services_.size());
    if (is_new) {
        services_.push_back(std::move(service));
    }
    return &services_[found->second];
}

std::optional<ServiceName> parse_service_name(std::string_view text) {
    const auto slash = text.find('/');
    if (slash == std::string_view::npos || slash == 0 || slash + 1 == text.size() ||
        text.find(' ') != std::string_view::npos) {
        return std::nullopt;
    }
    const auto colon = text.find(':', slash);
    const auto end = colon == std::string_view::npos ? text.size() : colon;
    return ServiceName{std::string(text.substr(0, slash)), std::string(text.substr(slash + 1, end - slash - 1)),
                       std::string(colon == std::string_view::npos ? std::string_view{} : text.substr(colon + 1))};
}

RulesPart interpret_source(const std::vector<RuleTable>& tables) {
    std::vector<TableView> views;
    for (const RuleTable& table : tables) {
        if (!table.families.empty()) {
            views.emplace_back(table);
        }
    }
    NodeState state;
    UnreadRules unread(state.unread_rules);
    Work work = work_for(views);
    for (const TableView& view : views) {
        interpret_hostports(view, state.hostports, unread, work);
        if (view.is_xtables() && view.table().name == "nat") {
            state.nat_tables.push_back(nat_table(view));
        }
    }
    std::map<std::tuple<Backend, Family>, std::uint32_t> next;
    for (HostPortRule& rule : state.hostports) {
        rule.order = next[{rule.backend, rule.family}]++;
    }
    interpret_services(views, state, unread, work);
    return {.proxy = state.proxy,
            .services = std::move(state.services),
            .hostports = std::move(state.hostports),
            .nat_tables = std::move(state.nat_tables),
            .unread_rules = std::move(state.unread_rules)};
}

void interpret_rules(std::vector<RuleTable> tables, NodeState& state) {
    // iptables-legacy of one family is a source, all of nf_tables is one.
    std::map<std::pair<bool, Family>, std::vector<RuleTable>> sources;
    for (RuleTable& table : tables) {
        if (!table.families.empty()) {
            const bool legacy = table.backend == Backend::iptables_legacy;
            sources[{!legacy, legacy ? table.families.front() : Family::ipv4}].push_back(std::move(table));
        }
    }
    for (const auto& [source, tables_of_it] : sources) {
        add_rules(interpret_source(tables_of_it), state);
    }
    std::ranges::sort(state.hostports, {},
                      [](const HostPortRule& rule) { return std::tuple(rule.backend, rule.family, rule.order); });
}

}  // namespace hptrace
