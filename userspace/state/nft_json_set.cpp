// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/nft_json_set.hpp"

#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "state/json_read.hpp"
#include "state/nft_json_operand.hpp"

namespace hptrace {
namespace {

using nlohmann::json;
using Parts = std::vector<SetPart>;

std::optional<SetPart> part_of(std::string_view type) {
    constexpr std::array<std::pair<std::string_view, SetPart>, 5> parts{{{"integer", SetPart::number},
                                                                         {"ipv4_addr", SetPart::ipv4_address},
                                                                         {"ipv6_addr", SetPart::ipv6_address},
                                                                         {"inet_proto", SetPart::protocol},
                                                                         {"inet_service", SetPart::port}}};
    const auto* const known = std::ranges::find(parts, type, [](const auto& part) { return part.first; });
    return known == parts.end() ? std::nullopt : std::optional(known->second);
}

// "ipv4_addr", ["ipv4_addr", "inet_service"], or what nft 1.0 prints of a map's data: "ipv4_addr . inet_service".
std::optional<Parts> parts_of(const json& type) {
    Parts parts;
    for (const auto& item : type.is_array() ? type : json::array({type})) {
        if (!item.is_string()) {
            return std::nullopt;
        }
        std::string_view rest = item.get_ref<const std::string&>();
        for (bool more = true; more;) {
            constexpr std::string_view dot = " . ";
            const auto at = rest.find(dot);
            more = at != std::string_view::npos;
            const auto part = part_of(rest.substr(0, at));
            if (!part) {
                return std::nullopt;
            }
            parts.push_back(*part);
            rest = more ? rest.substr(at + dot.size()) : std::string_view{};
        }
    }
    return parts;
}

// The operand whose values are those of the part.
Operand operand_of(SetPart part) {
    if (part == SetPart::protocol) {
        return {.kind = Operand::Kind::meta, .name = "meta", .key = NFT_META_L4PROTO};
    }
    constexpr std::uint32_t port_size = 2;
    const auto size = part == SetPart::port ? port_size : static_cast<std::uint32_t>(part_size(part));
    return {.kind = Operand::Kind::payload, .name = "payload", .length = size};
}

bool read_part(SetPart part, const json& value, SetElement::Key& key) {
    if (part == SetPart::number) {
        return as_number(value).has_value();
    }
    const auto bytes = json_bytes(operand_of(part), value);
    if (!bytes) {
        return false;
    }
    if (part == SetPart::protocol) {
        key.protocol = bytes->front();
    } else if (part == SetPart::port) {
        key.port = static_cast<std::uint16_t>(bytes->front() << 8U | bytes->back());
    } else {
        key.ip = make_address(part == SetPart::ipv4_address ? Family::ipv4 : Family::ipv6, *bytes);
    }
    return true;
}

// A value, or {"concat": [values]}.
bool read_parts(const Parts& parts, const json& value, SetElement::Key& key) {
    const json* const concatenated = member(value, "concat");
    if (concatenated == nullptr) {
        return parts.size() == 1 && read_part(parts.front(), value, key);
    }
    return concatenated->is_array() && std::ranges::equal(parts, *concatenated, [&key](SetPart part, const json& item) {
               return read_part(part, item, key);
           });
}

// A value, or {"elem": {"val": value, "comment": ...}}.
bool read_key(const Parts& parts, const json& value, SetElement& element) {
    const json* const wrapped = member(value, "elem");
    if (wrapped == nullptr) {
        return read_parts(parts, value, element.key);
    }
    const json* const inner = member(*wrapped, "val");
    element.comment = text_of(*wrapped, "comment").value_or("");
    return inner != nullptr && read_parts(parts, *inner, element.key);
}

bool read_verdict(const json& value, SetElement& element) {
    constexpr std::array<std::pair<std::string_view, TargetKind>, 5> verdicts{{{"accept", TargetKind::accept},
                                                                               {"drop", TargetKind::drop},
                                                                               {"return", TargetKind::return_},
                                                                               {"jump", TargetKind::jump},
                                                                               {"goto", TargetKind::go_to}}};
    const auto [name, argument] = only_item(value);
    const auto* const known = std::ranges::find(verdicts, name, [](const auto& verdict) { return verdict.first; });
    if (argument == nullptr || known == verdicts.end()) {
        return false;
    }
    element.verdict = known->second;
    element.chain = text_of(*argument, "target").value_or("");
    const bool leads_on = element.verdict == TargetKind::jump || element.verdict == TargetKind::go_to;
    return leads_on != element.chain.empty();
}

bool read_data(const NftSet& set, const json& value, SetElement& element) {
    if (set.data == SetData::verdict) {
        return read_verdict(value, element);
    }
    Parts parts{set.family == Family::ipv4 ? SetPart::ipv4_address : SetPart::ipv6_address};
    if (set.data == SetData::address_and_port) {
        parts.push_back(SetPart::port);
    }
    SetElement::Key to;
    const bool read = read_parts(parts, value, to);
    element.to = {.ip = to.ip, .port = to.port};
    return read;
}

void add_elements(const json& elements, NftSet& set) {
    if (!elements.is_array()) {
        set.whole = false;
        return;
    }
    for (const auto& item : elements) {
        SetElement element;
        const bool map = set.data != SetData::none;
        const bool pair = item.is_array() && item.size() == 2;
        const bool read = map ? pair && read_key(set.key, item.front(), element) && read_data(set, item.back(), element)
                              : read_key(set.key, item, element);
        if (read) {
            set.elements.push_back(std::move(element));
        } else {
            set.whole = false;
        }
    }
}

bool has_flag(const json& object, std::string_view wanted) {
    const json* const flags = member(object, "flags");
    if (flags == nullptr) {
        return false;
    }
    return flags->is_array() ? std::ranges::any_of(*flags, [wanted](const json& flag) { return flag == wanted; })
                             : *flags == wanted;
}

// What an element yields: parts of an address, or none for a verdict.
std::optional<Parts> data_parts(const json& value, Family family) {
    const auto address = family == Family::ipv4 ? SetPart::ipv4_address : SetPart::ipv6_address;
    if (const json* const concatenated = member(value, "concat")) {
        return concatenated->is_array() && concatenated->size() == 2 ? std::optional(Parts{address, SetPart::port})
                                                                     : std::nullopt;
    }
    return value.is_object() ? Parts{} : Parts{address};
}

}  // namespace

std::optional<NftSet> decode_nft_json_set(const json& object) {
    if (has_flag(object, "interval") || has_flag(object, "timeout")) {
        return std::nullopt;
    }
    const json* const type = member(object, "type");
    const json* const map = member(object, "map");
    const bool verdict = map != nullptr && *map == "verdict";
    auto key = type == nullptr ? std::nullopt : parts_of(*type);
    const auto data = map != nullptr && !verdict ? parts_of(*map) : std::optional(Parts{});
    if (!key || !data) {
        return std::nullopt;
    }
    auto set = make_set(*std::move(key), *data, verdict);
    if (!set) {
        return std::nullopt;
    }
    set->name = text_of(object, "name").value_or("");
    if (const json* const elements = member(object, "elem")) {
        add_elements(*elements, *set);
    }
    return set;
}

std::optional<NftSet> decode_nft_json_map(const json& elements, const std::vector<LookupField>& fields,
                                          std::optional<Family> family) {
    Parts key;
    for (const LookupField field : fields) {
        switch (field) {
            case LookupField::source_address:
            case LookupField::destination_address:
                key.push_back(family == Family::ipv6 ? SetPart::ipv6_address : SetPart::ipv4_address);
                break;
            case LookupField::protocol:
                key.push_back(SetPart::protocol);
                break;
            case LookupField::source_port:
            case LookupField::destination_port:
                key.push_back(SetPart::port);
                break;
            case LookupField::any:
                key.push_back(SetPart::number);
                break;
            case LookupField::other:
                return std::nullopt;
        }
    }
    const bool pairs =
        elements.is_array() && !elements.empty() && elements.front().is_array() && elements.front().size() == 2;
    const auto data = pairs ? data_parts(elements.front().back(), family.value_or(Family::ipv4)) : std::nullopt;
    if (!data) {
        return std::nullopt;
    }
    auto set = make_set(std::move(key), *data, data->empty());
    if (set) {
        add_elements(elements, *set);
    }
    return set;
}

}  // namespace hptrace
