// SPDX-License-Identifier: GPL-2.0-or-later
// The rules of a table of iptables-legacy where the kernel put them (struct ipt_entry, struct ip6t_entry): each is
// decoded when someone looks at it, and nothing is kept of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "state/ruleset.hpp"
#include "state/set_names.hpp"

namespace hptrace {

class LegacyRules {
public:
    // What a walk needs to know without decoding rules. Chains are numbered as in RuleTable::chains.
    struct Index {
        std::vector<std::uint32_t> begins;  // of each chain: LegacyChain::begin
        std::vector<std::string_view> names;
        std::vector<std::uint32_t> jumps;  // the chains that rules jump or go to, in the order of the rules
        std::size_t rules = 0;
    };

    // `blob` must have been checked (parse_legacy_blob()), and lives as long as `owner`; null: the caller sees to it.
    LegacyRules(std::span<const std::byte> blob, std::shared_ptr<const void> owner, Family family, SetNameOf set_name,
                Index index);

    // Decodes the rule at the offset into `rule`, which is a new one; returns where the next one begins.
    std::uint32_t decode(std::uint32_t offset, Rule& rule) const;
    // Where the entry stands in memory.
    [[nodiscard]] const void* address_of(std::uint32_t offset) const { return &blob_[offset]; }
    // The chain the rule at this offset jumps or goes to; nothing: it does neither.
    [[nodiscard]] std::optional<std::size_t> jump_of(std::uint32_t offset) const;
    // All chains the rules of this one jump or go to.
    [[nodiscard]] std::span<const std::uint32_t> jumps_of(const LegacyChain& chain) const;
    // How many rules there are.
    [[nodiscard]] std::size_t size() const { return index_.rules; }

private:
    template <class Entry>
    std::uint32_t decode_entry(std::uint32_t offset, Rule& rule) const;

    std::span<const std::byte> blob_;
    std::shared_ptr<const void> owner_;
    Family family_;
    SetNameOf set_name_;
    Index index_;
};

}  // namespace hptrace
