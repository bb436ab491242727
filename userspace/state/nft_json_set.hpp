// SPDX-License-Identifier: GPL-2.0-or-later
// Sets and maps in nft's JSON, as decode_nft_set() and add_nft_elements() read the kernel's.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <vector>

#include "state/nft_set.hpp"

namespace hptrace {

// A "set" or "map" object with its elements. Nothing: it is of a type that is not evaluated.
std::optional<NftSet> decode_nft_json_set(const nlohmann::json& object);

// The elements of an anonymous map ("data": {"set": [...]}), the key being these fields of packets of `family`.
// Nothing: the fields or what the map yields are not evaluated.
std::optional<NftSet> decode_nft_json_map(const nlohmann::json& elements, const std::vector<LookupField>& fields,
                                          std::optional<Family> family);

}  // namespace hptrace
