// SPDX-License-Identifier: GPL-2.0-or-later
// What iptables-save and ip6tables-save print, of either back end.
#pragma once

#include <string_view>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"
#include "state/ruleset.hpp"

namespace hptrace {

// The tables nat and filter in `text`, as the readers of the kernel give them (without handles and offsets); others
// are passed over. A rule's unknown matches and options become Rule::unread. Error: not such text, or cut off.
Result<std::vector<RuleTable>> parse_iptables_save(std::string_view text, Backend backend, Family family);

}  // namespace hptrace
