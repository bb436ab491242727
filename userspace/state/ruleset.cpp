// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/ruleset.hpp"

#include <algorithm>
#include <bit>

namespace hptrace {

const Chain* RuleTable::find_chain(std::string_view chain) const {
    const auto found = std::ranges::find(chains, chain, &Chain::name);
    return found == chains.end() ? nullptr : &*found;
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
