// SPDX-License-Identifier: GPL-2.0-or-later
// One nf_tables rule: its expressions followed through the registers they load and compare.
#pragma once

#include <linux/netfilter/nf_tables.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "state/netlink.hpp"
#include "state/nft_set.hpp"
#include "state/ruleset.hpp"
#include "state/set_names.hpp"

namespace hptrace {

// NFTA_RULE_* of a message.
using NftRuleAttributes = AttributeTable<NFTA_RULE_USERDATA>;

// What the expressions of `rule` mean, native ones as nft and iptables-nft write them and xtables compat ones.
// `family`: of the rule's table; nothing for inet, where the rule itself may name one (Rule::family).
// `sets`: of the table, with the elements of anonymous ones. Maps that are not in it, anonymous sets, unknown
// expressions and those that are not as the kernel writes them become Rule::unread.
Rule decode_nft_rule(const NftRuleAttributes& rule, std::optional<Family> family, const SetNameOf& set_name,
                     const NftSets& sets);

// The comment of this type that nft keeps in the user data of a rule or an element; empty: there is none.
std::string user_comment(std::span<const std::uint8_t> data, std::uint8_t type);

}  // namespace hptrace
