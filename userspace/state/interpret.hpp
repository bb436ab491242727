// SPDX-License-Identifier: GPL-2.0-or-later
// Inside interpret_rules(): what HostPort producers' rules and kube-proxy's rules mean.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "state/node_state.hpp"
#include "state/ruleset.hpp"

namespace hptrace {

// A table with its chains by name. The table must outlive it.
class TableView {
public:
    explicit TableView(const RuleTable& table);

    [[nodiscard]] const RuleTable& table() const { return *table_; }
    // Null: no such chain.
    [[nodiscard]] const Chain* find(std::string_view chain) const;
    // The chain a jump or goto leads to; null: the rule is none, or leads nowhere.
    [[nodiscard]] const Chain* jump_of(const Rule& rule) const;
    // The base chain of this hook that can hold nat rules; null: none.
    [[nodiscard]] const Chain* base(std::string_view hook) const;
    [[nodiscard]] bool is_xtables() const { return table_->backend != Backend::nftables; }

private:
    const RuleTable* table_;
    std::unordered_map<std::string_view, const Chain*> chains_;
};

// Collects rules that were not understood, each once.
class UnreadRules {
public:
    explicit UnreadRules(std::vector<UnreadRule>& rules) : rules_(rules) {}
    void add(const TableView& table, const Chain& chain, const Rule& rule);

private:
    std::vector<UnreadRule>& rules_;
    std::unordered_set<const Rule*> seen_;
};

// The chains a HostPort producer's jump leads to in an xtables nat table; nothing: not one of them.
std::optional<Producer> producer_of_entry_chain(std::string_view chain);

// Adds the HostPort rules of this table to `hostports`, in the order packets meet them.
void interpret_hostports(const TableView& table, std::vector<HostPortRule>& hostports, UnreadRules& unread);

// Adds the Services of kube-proxy in iptables mode, from the nat and filter tables, and says which mode of kube-proxy
// the rules show (state.proxy; left alone if none).
void interpret_services(const std::vector<TableView>& tables, NodeState& state, UnreadRules& unread);

}  // namespace hptrace
