// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>
#include <string_view>

#include "state/ruleset.hpp"

namespace hptrace {

// The rule for people, as iptables-save ("-A CHAIN -p tcp ... -j DNAT --to-destination ...") or nft ("tcp dport 80 dnat
// to ...") would print it, as far as it was decoded. What was not is named in brackets. Comments are kept as they are:
// whoever prints this must escape control characters.
std::string rule_text(Backend backend, std::string_view chain, const Rule& rule);

}  // namespace hptrace
