// SPDX-License-Identifier: GPL-2.0-or-later
// iptables-legacy's table blob (struct ipt_entry, struct ip6t_entry), parsed without trusting a byte of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/pages.hpp"
#include "state/ruleset.hpp"
#include "state/set_names.hpp"
#include "state/versioned.hpp"

namespace hptrace {

// What IPT_SO_GET_INFO says about a table (struct ipt_getinfo; struct ip6t_getinfo is the same).
struct LegacyInfo {
    std::string name;
    std::uint32_t valid_hooks = 0;              // bit per netfilter hook
    std::array<std::uint32_t, 5> hook_entry{};  // offset of the first rule of each base chain
    std::uint32_t num_entries = 0;
    std::uint32_t size = 0;
};

struct LegacyBlob {
    LegacyInfo info;
    Pages answer;  // struct ipt_get_entries: a header, then the entries

    [[nodiscard]] std::span<const std::byte> entries() const;
};

// What the kernel returns for one table (IPT_SO_GET_INFO, then IPT_SO_GET_ENTRIES). The table must exist in the calling
// thread's namespace: asking creates it otherwise. EAGAIN: it was replaced between the two calls.
Result<LegacyBlob> read_legacy_blob(const std::string& table, Family family);

// The table in `blob` (the entries IPT_SO_GET_ENTRIES returns), as RuleTable::legacy. An Error if anything in it does
// not add up: a size or offset outside the blob, a jump to where no chain begins, hooks or number of entries that
// differ from `info`. The table keeps `owner`, which keeps the blob; null: the caller keeps it as long as the table.
Result<RuleTable> parse_legacy_blob(std::span<const std::byte> blob, const LegacyInfo& info, Family family,
                                    SetNameOf set_name, std::shared_ptr<const void> owner = nullptr);

// What differs when the rules of a table do: not their packet counters.
std::uint64_t fingerprint_of(std::span<const std::byte> blob, const LegacyInfo& info, Family family);

// As read_legacy_tables(), but takes the tables apart only if they are not those that had the version `known`: most of
// the work. There is no generation to ask for.
ReadIfNew<std::vector<RuleTable>> read_legacy_tables_if_new(Family family, std::optional<std::uint64_t> known);

}  // namespace hptrace
