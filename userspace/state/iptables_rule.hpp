// SPDX-License-Identifier: GPL-2.0-or-later
// One rule as iptables-save prints it.
#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "base/address.hpp"
#include "state/ruleset.hpp"
#include "state/save_text.hpp"

namespace hptrace {

// What the words behind "-A CHAIN" mean, decoded as xt_decode.hpp decodes the kernel's payloads.
// What is not understood becomes Rule::unread. `is_chain`: of the rule's table, for it tells a jump from an extension.
Rule parse_iptables_rule(std::span<const Word> words, Family family,
                         const std::function<bool(std::string_view)>& is_chain);

}  // namespace hptrace
