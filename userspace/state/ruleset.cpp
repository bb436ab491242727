// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/ruleset.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace hptrace {

const Chain* RuleTable::find_chain(std::string_view chain) const {
    const auto found = std::ranges::find(chains, chain, &Chain::name);
    return found == chains.end() ? nullptr : &*found;
}

bool can_hold_nat(const RuleTable& table) {
    return table.name == "nat" || table.name == "filter" ||
           std::ranges::any_of(table.chains, [](const Chain& chain) { return chain.type == "nat"; });
}

bool sets_matter(const RuleTable& table) {
    return table.name == "kube-proxy" || table.name == "crio-hostports";
}

Backend nf_tables_backend(const RuleTable& table) {
    // iptables-nft writes into tables with these names, and its base chains are named after their hooks.
    constexpr std::array<std::string_view, 5> names{"nat", "filter", "mangle", "raw", "security"};
    const bool of_iptables =
        table.families.size() == 1 && std::ranges::find(names, table.name) != names.end() &&
        std::ranges::all_of(table.chains, [](const Chain& chain) { return !chain.hook || chain.name == *chain.hook; });
    return of_iptables ? Backend::iptables_nft : Backend::nftables;
}

std::optional<std::uint8_t> mask_length(std::span<const std::uint8_t> mask) {
    int length = 0;
    bool ended = false;
    for (const std::uint8_t byte : mask) {
        const int ones = std::countl_one(byte);
        if ((ended && byte != 0) || std::popcount(byte) != ones) {
            return std::nullopt;
        }
        ended = ended || ones != 8;
        length += ones;
    }
    return static_cast<std::uint8_t>(length);
}

}  // namespace hptrace
