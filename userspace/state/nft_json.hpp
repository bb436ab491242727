// SPDX-License-Identifier: GPL-2.0-or-later
// What `nft -j list ruleset` prints (libnftables-json(5)).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string_view>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"
#include "state/nft_set.hpp"
#include "state/ruleset.hpp"

namespace hptrace {

// The tables that read_nf_tables() reads from the kernel, in its order. The xtables matches of iptables-nft have no
// payload in JSON: they become Rule::unread. Error: no such JSON.
Result<std::vector<RuleTable>> parse_nft_json(std::string_view text);

// What one "rule" object means, decoded as decode_nft_rule() decodes the kernel's expressions.
// `family`: of the rule's table; nothing for inet. `sets`: the table's named ones; null: its maps are not followed.
Rule decode_nft_json_rule(const nlohmann::json& rule, std::optional<Family> family, const NftSets* sets = nullptr);

}  // namespace hptrace
