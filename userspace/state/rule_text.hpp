// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "state/ruleset.hpp"

namespace hptrace {

// The rule for people, as iptables-save ("-A CHAIN -p tcp ... -j DNAT --to-destination ...") or nft ("tcp dport 80 dnat
// to ...") would print it, as far as it was decoded. What was not is named in brackets. Comments are kept as they are:
// whoever prints this must escape control characters.
std::string rule_text(Backend backend, std::string_view chain, const Rule& rule);

// The key of an element as nft prints and takes it: "10.96.0.10 . tcp . 3306".
std::string key_text(const std::vector<SetPart>& parts, const SetElement::Key& key);
// The element with its comment and what it yields: "tcp . 8080 comment \"x\" : 10.1.1.2 . 80", "... : goto chain".
std::string element_text(const std::vector<SetPart>& parts, SetData data, const SetElement& element);

}  // namespace hptrace
