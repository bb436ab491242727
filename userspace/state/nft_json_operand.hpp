// SPDX-License-Identifier: GPL-2.0-or-later
// The expressions of nft's JSON as the registers of nf_tables would hold them, for the comparisons of both readers.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "state/nftables_compare.hpp"

namespace hptrace {

// What is on the left of a match: {"payload": ...}, {"meta": ...}; of a concatenation its first part.
// Kind::nothing: not known here.
Operand json_operand(const nlohmann::json& expression);

// Every part of a concatenation; of anything else itself.
std::vector<Operand> json_operands(const nlohmann::json& expression);

// Does its value decide about Services and HostPorts? Else the match is one of Rule::conditions, whatever the value.
bool is_evaluated(const Operand& operand);

// The value on the right as the kernel would compare it; nothing: it is no value of such an operand.
std::optional<std::vector<std::uint8_t>> json_bytes(const Operand& operand, const nlohmann::json& value);

// Key and value of an object with one member, as {"payload": {...}}; null: it is none.
std::pair<std::string, const nlohmann::json*> only_item(const nlohmann::json& object);

}  // namespace hptrace
