// SPDX-License-Identifier: GPL-2.0-or-later
// Inside interpret_rules(): what HostPort producers' rules and kube-proxy's rules mean.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/work.hpp"
#include "state/node_state.hpp"
#include "state/rule_range.hpp"
#include "state/ruleset.hpp"

namespace hptrace {

// A table with its chains by name. The table must outlive it.
class TableView {
public:
    explicit TableView(const RuleTable& table);

    [[nodiscard]] const RuleTable& table() const { return *table_; }
    // Those of one of its chains: the only way to them.
    [[nodiscard]] RuleRange rules(const Chain& chain) const { return {*table_, chain}; }
    // How many there are in all chains.
    [[nodiscard]] std::size_t rule_count() const;
    // The same for a rule whenever it is looked at, and for no other.
    [[nodiscard]] const void* identity(const Rule& rule) const;
    // Where a chain stands among the table's.
    [[nodiscard]] std::size_t place_of(const Chain& chain) const {
        return static_cast<std::size_t>(&chain - table_->chains.data());
    }
    // Null: no such chain.
    [[nodiscard]] const Chain* find(std::string_view chain) const;
    // The chain a jump or goto leads to; null: the rule is none, or leads nowhere.
    [[nodiscard]] const Chain* jump_of(const Rule& rule) const;
    // Does a jump or goto of `chain` lead to one that is `wanted`?
    template <class Wanted>
    [[nodiscard]] bool any_jump(const Chain& chain, Wanted wanted) const;
    // Does a jump or goto of `chain` (null: none) lead to the chain of this name?
    [[nodiscard]] bool leads_to(const Chain* chain, std::string_view name) const {
        return chain != nullptr && any_jump(*chain, [name](const Chain& to) { return to.name == name; });
    }
    // Null: no such set, or none that is evaluated.
    [[nodiscard]] const NftSet* find_set(std::string_view set) const;
    // The base chain of this hook that can hold nat rules; null: none.
    [[nodiscard]] const Chain* base(std::string_view hook) const;
    [[nodiscard]] bool is_xtables() const { return table_->backend != Backend::nftables; }

private:
    const RuleTable* table_;
    std::unordered_map<std::string_view, const Chain*> chains_;
    std::unordered_map<std::string_view, const NftSet*> sets_;
};

template <class Wanted>
bool TableView::any_jump(const Chain& chain, Wanted wanted) const {
    if (table_->legacy != nullptr) {
        return std::ranges::any_of(table_->legacy->jumps_of(chain.legacy),
                                   [&](std::uint32_t place) { return wanted(table_->chains[place]); });
    }
    return std::ranges::any_of(chain.rules, [&](const Rule& rule) {
        const Chain* to = jump_of(rule);
        return to != nullptr && wanted(*to);
    });
}

// How much may be done to interpret some tables; one unit: a rule or an element that is looked at, or a thing that is
// copied. Chains that fork make more ways through them than there are rules, and more than anyone can go: anybody with
// a user namespace can write such. It grows with the tables, so that real ones, whatever their size, are far from it.
Work work_for(const std::vector<TableView>& tables);

// Collects rules and elements of sets that were not understood, each once.
class UnreadRules {
public:
    explicit UnreadRules(std::vector<UnreadRule>& rules) : rules_(rules) {}
    void add(const TableView& table, const Chain& chain, const Rule& rule);
    // The walk was given up at `rule`: of what is behind it nothing is known. `why`: which bound it hit. Once per
    // chain.
    void add_rest(const TableView& table, const Chain& chain, const Rule& rule, std::string_view why);
    // UnreadRule::chain is then the name of the set.
    void add(const TableView& table, const NftSet& set, const SetElement& element);
    // If the reader of the set did not understand all of it.
    void add_if_not_whole(const TableView& table, const NftSet& set);

private:
    static std::string text_of(const TableView& table, const Chain& chain, const Rule& rule);
    // Null: it was added before.
    UnreadRule* add_to_set(const TableView& table, const NftSet& set, const void* what, std::string text);

    std::vector<UnreadRule>& rules_;
    std::unordered_set<const void*> seen_;
};

// The Services being collected: rules of several chains and tables add to one. Those that state.services holds at first
// are not looked at.
class ServiceCollector {
public:
    ServiceCollector(NodeState& state, Work& work) : services_(state.services), work_(work) {}

    // The Service with the address, port and protocol of `service`, which it becomes if there is none; until the next
    // call. Null: there is not enough work left.
    [[nodiscard]] Service* at(Service&& service);

private:
    struct Key {
        Endpoint destination;  // unspecified: any local address
        Protocol protocol;
        bool operator==(const Key&) const = default;
    };
    struct Hash {
        std::size_t operator()(const Key& key) const noexcept;
    };
    std::vector<Service>& services_;
    Work& work_;
    std::unordered_map<Key, std::size_t, Hash> places_;
};

// Where node ports are served: any local address, or one (--nodeport-addresses; of nftables mode by default the node's
// own).
struct NodePortScope {
    std::optional<Address> ip;
    bool on_loopback = false;
};

// "ns/name:port" of a comment; "ns/name" and "ns/name:" (up to 1.18) are unnamed ports. Nothing: no such name.
std::optional<ServiceName> parse_service_name(std::string_view text);

// The chains a HostPort producer's jump leads to in an xtables nat table; nothing: not one of them.
std::optional<Producer> producer_of_entry_chain(std::string_view chain);

// Adds the HostPort rules of this table to `hostports`, in the order packets meet them.
void interpret_hostports(const TableView& table, std::vector<HostPortRule>& hostports, UnreadRules& unread, Work& work);

// Adds the Services of kube-proxy's nftables mode, from its table of one family. False: its chains are no longer used.
bool interpret_kube_nftables(const TableView& table, ServiceCollector& services, UnreadRules& unread, Work& work);

// Adds the Services of kube-proxy in iptables and nftables mode, from its tables, and says which mode of
// kube-proxy the rules show (state.proxy; left alone if none).
void interpret_services(const std::vector<TableView>& tables, NodeState& state, UnreadRules& unread, Work& work);

}  // namespace hptrace
