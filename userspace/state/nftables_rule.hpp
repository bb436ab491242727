// SPDX-License-Identifier: GPL-2.0-or-later
// One nf_tables rule: its expressions followed through the registers they load and compare.
#pragma once

#include <libnftnl/rule.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "state/nft_set.hpp"
#include "state/ruleset.hpp"
#include "state/set_names.hpp"

namespace hptrace {

// What the expressions of `rule` mean, native ones as nft and iptables-nft write them and xtables compat ones.
// `family`: of the rule's table; nothing for inet, where the rule itself may name one (Rule::family).
// `sets`: of the table, with the elements of anonymous ones. Maps that are not in it, anonymous sets and unknown
// expressions become Rule::unread.
Rule decode_nft_rule(const nftnl_rule& rule, std::optional<Family> family, const SetNameOf& set_name,
                     const NftSets& sets);

// The comment of this type that nft keeps in the user data of a rule or an element; empty: there is none.
std::string user_comment(std::span<const std::uint8_t> data, std::uint8_t type);

}  // namespace hptrace
