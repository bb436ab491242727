// SPDX-License-Identifier: GPL-2.0-or-later
// What both readers of nf_tables ask about the types of sets and maps.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "state/nftables_compare.hpp"
#include "state/ruleset.hpp"

namespace hptrace {

// The sets and maps of one table by name, anonymous ones included ("__map0").
using NftSets = std::unordered_map<std::string, NftSet>;

// How the kernel names the anonymous maps of rules: "__map0".
inline constexpr std::string_view anonymous_map = "__map";

// Bytes of a part in a register or in a key: whole registers of four.
constexpr std::size_t part_size(SetPart part) {
    return part == SetPart::ipv6_address ? 16 : 4;
}

// An empty set with such keys and data of those parts (none: a set; or nothing but `verdict`). Nothing: not evaluated,
// for an element has room for one part of each kind, and a map yields a verdict, an address, or an address and a port.
std::optional<NftSet> make_set(std::vector<SetPart> key, const std::vector<SetPart>& data, bool verdict);

// Which field of a packet an expression loads.
LookupField lookup_field(const Operand& operand, std::optional<Family> family);

// A lookup of these fields in the map, which is named in it; nothing: they are no key of it.
std::optional<MapLookup> make_lookup(const NftSet& map, std::vector<LookupField> fields);
// The same in an anonymous map. Nothing also if one of its elements was not understood.
std::optional<MapLookup> make_anonymous_lookup(NftSet map, std::vector<LookupField> fields);

// The named ones, sorted by name.
std::vector<NftSet> named_sets(NftSets sets);

}  // namespace hptrace
