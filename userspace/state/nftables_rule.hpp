// SPDX-License-Identifier: GPL-2.0-or-later
// One nf_tables rule: its expressions followed through the registers they load and compare.
#pragma once

#include <libnftnl/rule.h>

#include <optional>

#include "state/ruleset.hpp"
#include "state/set_names.hpp"

namespace hptrace {

// What the expressions of `rule` mean, native ones as nft and iptables-nft write them and xtables compat ones.
// `family`: of the rule's table; nothing for inet, where the rule itself may name one (Rule::family).
// Linear rules are decoded; maps, anonymous sets and unknown expressions become Rule::unread.
Rule decode_nft_rule(const nftnl_rule& rule, std::optional<Family> family, const SetNameOf& set_name);

}  // namespace hptrace
