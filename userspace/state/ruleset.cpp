// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/ruleset.hpp"

#include <linux/netfilter_ipv4.h>

#include <algorithm>
#include <array>
#include <bit>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace hptrace {
namespace {

struct BaseChain {
    std::string_view table;
    std::string_view hook;  // the chain's name too
    std::int32_t priority;
    std::string_view type;
};
// iptables-nft's (xtables_ipv4[], iptables/nft.c): a base chain that is any other in name, hook, priority or type is
// not touched by it (nft_cache_add_base_chain()).
constexpr std::array iptables_chains{
    BaseChain{"raw", "PREROUTING", NF_IP_PRI_RAW, "filter"},
    BaseChain{"raw", "OUTPUT", NF_IP_PRI_RAW, "filter"},
    BaseChain{"mangle", "PREROUTING", NF_IP_PRI_MANGLE, "filter"},
    BaseChain{"mangle", "INPUT", NF_IP_PRI_MANGLE, "filter"},
    BaseChain{"mangle", "FORWARD", NF_IP_PRI_MANGLE, "filter"},
    BaseChain{"mangle", "OUTPUT", NF_IP_PRI_MANGLE, "route"},
    BaseChain{"mangle", "POSTROUTING", NF_IP_PRI_MANGLE, "filter"},
    BaseChain{"filter", "INPUT", NF_IP_PRI_FILTER, "filter"},
    BaseChain{"filter", "FORWARD", NF_IP_PRI_FILTER, "filter"},
    BaseChain{"filter", "OUTPUT", NF_IP_PRI_FILTER, "filter"},
    BaseChain{"security", "INPUT", NF_IP_PRI_SECURITY, "filter"},
    BaseChain{"security", "FORWARD", NF_IP_PRI_SECURITY, "filter"},
    BaseChain{"security", "OUTPUT", NF_IP_PRI_SECURITY, "filter"},
    BaseChain{"nat", "PREROUTING", NF_IP_PRI_NAT_DST, "nat"},
    BaseChain{"nat", "INPUT", NF_IP_PRI_NAT_SRC, "nat"},
    BaseChain{"nat", "POSTROUTING", NF_IP_PRI_NAT_SRC, "nat"},
    BaseChain{"nat", "OUTPUT", NF_IP_PRI_NAT_DST, "nat"},
};

bool is_iptables_chain(std::string_view table, const Chain& chain) {
    return chain.hook == chain.name && std::ranges::any_of(iptables_chains, [&](const BaseChain& base) {
               return base.table == table && base.hook == chain.name && base.priority == chain.priority &&
                      base.type == chain.type;
           });
}

// Chains that a packet in one of `begin` can get to, these included.
std::unordered_set<const Chain*> reached_from(const std::vector<const Chain*>& begin, const RuleTable& table) {
    std::unordered_map<std::string_view, const Chain*> by_name;
    for (const Chain& chain : table.chains) {
        by_name.emplace(chain.name, &chain);
    }
    std::unordered_set<const Chain*> reached(begin.begin(), begin.end());
    std::vector<const Chain*> met = begin;
    const auto meet = [&](const std::string& name) {
        const auto found = by_name.find(name);
        if (found != by_name.end() && reached.insert(found->second).second) {
            met.push_back(found->second);
        }
    };
    while (!met.empty()) {
        const Chain& chain = *met.back();
        met.pop_back();
        for (const Rule& rule : chain.rules) {
            if (rule.target.kind == TargetKind::jump || rule.target.kind == TargetKind::go_to) {
                meet(rule.target.name);
            }
        }
    }
    return reached;
}

}  // namespace

const Chain* RuleTable::find_chain(std::string_view chain) const {
    const auto found = std::ranges::find(chains, chain, &Chain::name);
    return found == chains.end() ? nullptr : &*found;
}

bool can_hold_nat(std::string_view name, bool has_nat_chain) {
    return name == "nat" || name == "filter" || has_nat_chain;
}

bool can_hold_nat(const RuleTable& table) {
    return can_hold_nat(table.name,
                        std::ranges::any_of(table.chains, [](const Chain& chain) { return chain.type == "nat"; }));
}

bool sets_matter(std::string_view table) {
    return table == "kube-proxy" || table == "crio-hostports";
}

bool sets_matter(const RuleTable& table) {
    return sets_matter(table.name);
}

std::vector<RuleTable> by_back_end(RuleTable table) {
    const bool for_iptables =
        table.families.size() == 1 &&
        std::ranges::find(iptables_chains, table.name, &BaseChain::table) != iptables_chains.end();
    std::vector<const Chain*> of_iptables;
    std::vector<const Chain*> of_others;
    for (const Chain& chain : table.chains) {
        if (chain.hook) {
            (for_iptables && is_iptables_chain(table.name, chain) ? of_iptables : of_others).push_back(&chain);
        }
    }
    table.backend = for_iptables && of_others.empty() ? Backend::iptables_nft : Backend::nftables;
    std::vector<RuleTable> tables;
    if (!of_iptables.empty() && !of_others.empty()) {
        // A chain that both lead to is both's, one that nobody leads to is iptables': it lists those too.
        const auto ours = reached_from(of_iptables, table);
        const auto theirs = reached_from(of_others, table);
        RuleTable native{.backend = Backend::nftables,
                         .families = table.families,
                         .name = table.name,
                         .chains = {},
                         .sets = table.sets};
        std::vector<Chain> rest;
        for (Chain& chain : table.chains) {
            const bool both = ours.contains(&chain) || !theirs.contains(&chain);
            if (theirs.contains(&chain)) {
                native.chains.push_back(both ? chain : std::move(chain));
            }
            if (both) {
                rest.push_back(std::move(chain));
            }
        }
        table.backend = Backend::iptables_nft;
        table.chains = std::move(rest);
        tables.push_back(std::move(table));
        tables.push_back(std::move(native));
    } else {
        tables.push_back(std::move(table));
    }
    return tables;
}

std::optional<std::uint8_t> mask_length(std::span<const std::uint8_t> mask) {
    const auto rest = std::ranges::find_if(mask, [](std::uint8_t byte) { return byte != 0xff; });
    auto length = 8 * (rest - mask.begin());
    if (rest != mask.end()) {
        const int ones = std::countl_one(*rest);
        length += ones;
        if (std::popcount(*rest) != ones ||
            std::any_of(rest + 1, mask.end(), [](std::uint8_t byte) { return byte != 0; })) {
            return std::nullopt;
        }
    }
    return static_cast<std::uint8_t>(length);
}

}  // namespace hptrace
