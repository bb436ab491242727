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
        std::vector<std::string_view> names;  // in the blob
        std::vector<std::uint32_t> jumps;     // the chains that rules jump or go to, in the order of the rules
        std::size_t rules = 0;
    };

    // `blob` must have been checked (parse_legacy_blob()), and lives as long as `owner`; null: the caller sees to it.
    LegacyRules(std::span<const std::byte> blob, std::shared_ptr<const void> owner, Family family, SetNameOf set_name,
                Index index);

    // Where a walk through a chain is.
    struct Cursor {
        std::uint32_t offset;  // of the next rule
        std::uint32_t jump;    // the next one in Index::jumps
    };
    // Decodes the rule at the cursor into `rule`, which is a new one, and moves on.
    void decode(Cursor& cursor, Rule& rule) const;
    // The chains the rules of this one jump or go to.
    [[nodiscard]] std::span<const std::uint32_t> jumps_of(const LegacyChain& chain) const;
    // The first chain of this name; nothing: there is none.
    [[nodiscard]] std::optional<std::size_t> find(std::string_view chain) const;
    // Where an entry stands in memory.
    [[nodiscard]] const void* address_of(std::uint32_t offset) const { return &blob_[offset]; }
    // How many rules there are.
    [[nodiscard]] std::size_t size() const { return index_.rules; }

private:
    template <class Entry>
    void decode_entry(Cursor& cursor, Rule& rule) const;

    std::span<const std::byte> blob_;
    std::shared_ptr<const void> owner_;
    Family family_;
    SetNameOf set_name_;
    Index index_;
};

}  // namespace hptrace
