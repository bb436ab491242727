// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/nft_set.hpp"

#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

namespace hptrace {
namespace {

bool is_address_part(SetPart part) {
    return part == SetPart::ipv4_address || part == SetPart::ipv6_address;
}

Family family_of(SetPart address) {
    return address == SetPart::ipv4_address ? Family::ipv4 : Family::ipv6;
}

bool is_key_for(SetPart part, LookupField field) {
    switch (field) {
        case LookupField::source_address:
        case LookupField::destination_address:
            return is_address_part(part);
        case LookupField::protocol:
            return part == SetPart::protocol;
        case LookupField::source_port:
        case LookupField::destination_port:
            return part == SetPart::port;
        case LookupField::any:
            return part == SetPart::number;
        case LookupField::other:
            return false;
    }
    return false;
}

}  // namespace

std::optional<NftSet> make_set(std::vector<SetPart> key, const std::vector<SetPart>& data, bool verdict) {
    NftSet set;
    std::vector<SetPart> addresses;
    std::ranges::copy_if(key, std::back_inserter(addresses), is_address_part);
    const auto count = [&key](SetPart part) { return std::ranges::count(key, part); };
    if (key.empty() || addresses.size() > 1 || count(SetPart::protocol) > 1 || count(SetPart::port) > 1 ||
        count(SetPart::number) > 1) {
        return std::nullopt;
    }
    if (verdict) {
        set.data = SetData::verdict;
    } else if (!data.empty()) {
        if (!is_address_part(data.front()) || data.size() > 2 || (data.size() == 2 && data.back() != SetPart::port)) {
            return std::nullopt;
        }
        set.data = data.size() == 1 ? SetData::address : SetData::address_and_port;
        addresses.push_back(data.front());
    }
    if (std::ranges::adjacent_find(addresses, std::ranges::not_equal_to{}) != addresses.end()) {
        return std::nullopt;
    }
    set.family = addresses.empty() ? Family::ipv4 : family_of(addresses.front());
    set.key = std::move(key);
    return set;
}

LookupField lookup_field(const Operand& operand, std::optional<Family> family) {
    if (!operand.mask.empty()) {
        return LookupField::other;
    }
    if (operand.kind == Operand::Kind::meta && operand.key == NFT_META_L4PROTO) {
        return LookupField::protocol;
    }
    if (operand.kind == Operand::Kind::opaque && operand.name == "numgen") {
        return LookupField::any;
    }
    if (operand.kind != Operand::Kind::payload) {
        return LookupField::other;
    }
    if (operand.key == NFT_PAYLOAD_TRANSPORT_HEADER && operand.length == 2 &&
        (operand.offset == 0 || operand.offset == 2)) {
        return operand.offset == 0 ? LookupField::source_port : LookupField::destination_port;
    }
    if (is_address(operand, family)) {
        return is_source(operand, family) ? LookupField::source_address : LookupField::destination_address;
    }
    return LookupField::other;
}

std::optional<MapLookup> make_lookup(const NftSet& map, std::vector<LookupField> fields) {
    if (map.data == SetData::none || !std::ranges::equal(map.key, fields, is_key_for)) {
        return std::nullopt;
    }
    return MapLookup{.key = std::move(fields), .data = map.data, .family = map.family, .map = map.name, .elements = {}};
}

std::optional<MapLookup> make_anonymous_lookup(NftSet map, std::vector<LookupField> fields) {
    auto lookup = map.whole ? make_lookup(map, std::move(fields)) : std::nullopt;
    if (lookup) {
        lookup->map.clear();
        lookup->elements = std::move(map.elements);
    }
    return lookup;
}

std::vector<NftSet> named_sets(NftSets sets) {
    std::vector<NftSet> named;
    for (auto& [name, set] : sets) {
        if (!name.starts_with("__")) {
            named.push_back(std::move(set));
        }
    }
    std::ranges::sort(named, {}, &NftSet::name);
    return named;
}

}  // namespace hptrace
