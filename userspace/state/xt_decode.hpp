// SPDX-License-Identifier: GPL-2.0-or-later
// The payloads of xtables matches and targets, the same in iptables-legacy's blob and in nf_tables' compat expressions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "state/ruleset.hpp"
#include "state/set_names.hpp"

namespace hptrace {

struct XtContext {
    Family family = Family::ipv4;
    const SetNameOf& set_name;
};

// Adds what the match `name` revision `revision` demands to `rule`: payload layouts of linux/netfilter/xt_*.h.
// A payload that is too short and a match nobody knows become Rule::unread.
void decode_xt_match(std::string_view name, std::uint8_t revision, std::span<const std::byte> payload,
                     const XtContext& context, Rule& rule);

// Sets Rule::target. Targets that neither rewrite nor end anything are kept by name only.
void decode_xt_target(std::string_view name, std::uint8_t revision, std::span<const std::byte> payload,
                      const XtContext& context, Rule& rule);

// A match that only narrows a rule down; none of them names a HostPort's port. It is kept by name.
bool is_xt_condition(std::string_view match);

// TargetKind::other: neither rewrites nor ends anything, as far as this program is concerned.
TargetKind xt_target_kind(std::string_view target);

}  // namespace hptrace
