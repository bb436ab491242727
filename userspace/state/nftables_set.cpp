// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/nftables_set.hpp"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>

#include "state/nft_set.hpp"
#include "state/nftables_expression.hpp"
#include "state/nftables_rule.hpp"

namespace hptrace {
namespace {

using Data = Bytes;

// What nft keeps with an element (libnftnl's NFTNL_UDATA_SET_ELEM_COMMENT).
constexpr std::uint8_t element_comment = 0;

// Types of nft (enum datatypes of its datatype.h): the kernel keeps them without knowing what they mean. Those of a
// concatenation have six bits each, the last one the lowest.
constexpr std::uint32_t type_bits = 6;

std::optional<SetPart> part_of(std::uint32_t type) {
    switch (type) {
        case 4:  // integer
            return SetPart::number;
        case 7:  // ipv4_addr
            return SetPart::ipv4_address;
        case 8:  // ipv6_addr
            return SetPart::ipv6_address;
        case 12:  // inet_proto
            return SetPart::protocol;
        case 13:  // inet_service
            return SetPart::port;
        default:
            return std::nullopt;
    }
}

// Nothing: one of them is not evaluated.
std::optional<std::vector<SetPart>> parts_of(std::uint32_t type) {
    std::vector<SetPart> parts;
    for (; type != 0; type >>= type_bits) {
        const auto part = part_of(type & ((1U << type_bits) - 1));
        if (!part) {
            return std::nullopt;
        }
        parts.insert(parts.begin(), *part);
    }
    return parts;
}

std::uint16_t port_in(Data data) {
    return static_cast<std::uint16_t>(data[0] << 8U | data[1]);
}

// Bytes of a part itself: in a concatenation it is padded to registers.
std::size_t value_size(SetPart part) {
    return part == SetPart::protocol ? 1 : part == SetPart::port ? 2 : part_size(part);
}

bool read_key(const std::vector<SetPart>& parts, Data data, SetElement::Key& key) {
    for (const SetPart part : parts) {
        if (data.size() < value_size(part)) {
            return false;
        }
        if (part == SetPart::protocol) {
            key.protocol = data.front();
        } else if (part == SetPart::port) {
            key.port = port_in(data);
        } else if (part != SetPart::number) {
            key.ip = make_address(part == SetPart::ipv4_address ? Family::ipv4 : Family::ipv6, data);
        }
        data = data.subspan(std::min(part_size(part), data.size()));
    }
    return data.empty();
}

TargetKind verdict_of(std::int32_t code) {
    switch (code) {
        case NF_ACCEPT:
            return TargetKind::accept;
        case NF_DROP:
            return TargetKind::drop;
        case NFT_RETURN:
            return TargetKind::return_;
        case NFT_JUMP:
            return TargetKind::jump;
        case NFT_GOTO:
            return TargetKind::go_to;
        default:
            return TargetKind::none;
    }
}

bool read_verdict(Data data, SetElement& element) {
    auto verdict = parse_nft_verdict(data);
    if (!verdict) {
        return false;
    }
    element.verdict = verdict_of(verdict->code);
    element.chain = std::move(verdict->chain);
    return element.verdict != TargetKind::none;
}

// An address, and the port in the register behind it.
bool read_endpoint(Data data, const NftSet& set, Endpoint& to) {
    const bool with_port = set.data == SetData::address_and_port;
    const std::size_t address_size = Address{.family = set.family, .bytes = {}}.size();
    if (data.size() != address_size + (with_port ? part_size(SetPart::port) : 0)) {
        return false;
    }
    to.ip = make_address(set.family, data);
    to.port = with_port ? port_in(data.subspan(address_size)) : std::uint16_t{0};
    return true;
}

bool read_data(Data data, const NftSet& set, SetElement& element) {
    switch (set.data) {
        case SetData::none:
            return true;
        case SetData::verdict:
            return read_verdict(data, element);
        case SetData::address:
        case SetData::address_and_port: {
            const auto value = parse_nft_value(data);
            return value && read_endpoint(*value, set, element.to);
        }
    }
    return false;
}

// False: not understood.
bool add_element(Data raw, NftSet& set) {
    const auto attributes = AttributeTable<NFTA_SET_ELEM_USERDATA>::parse(raw);
    if (!attributes) {
        return false;
    }
    const auto part = [&attributes](std::uint16_t type) { return attributes->find(type).value_or(Data{}); };
    // That of all keys no other element has; the end of an interval.
    const bool has_flags =
        attributes->find(NFTA_SET_ELEM_FLAGS) && attributes->number<std::uint32_t>(NFTA_SET_ELEM_FLAGS) != 0;
    const auto key = parse_nft_value(part(NFTA_SET_ELEM_KEY));
    SetElement element;
    if (has_flags || !key || !read_key(set.key, *key, element.key) ||
        !read_data(part(NFTA_SET_ELEM_DATA), set, element)) {
        return false;
    }
    element.comment = user_comment(part(NFTA_SET_ELEM_USERDATA), element_comment);
    set.elements.push_back(std::move(element));
    return true;
}

}  // namespace

std::optional<NftSet> decode_nft_set(const NftSetAttributes& raw) {
    const auto number = [&raw](std::uint16_t type) { return raw.number<std::uint32_t>(type).value_or(0); };
    const auto name = raw.text(NFTA_SET_NAME);
    const std::uint32_t flags = number(NFTA_SET_FLAGS);
    if (!name || (flags & (NFT_SET_INTERVAL | NFT_SET_TIMEOUT | NFT_SET_OBJECT)) != 0) {
        return std::nullopt;
    }
    const std::uint32_t data_type = number(NFTA_SET_DATA_TYPE);
    const bool map = (flags & NFT_SET_MAP) != 0;
    const bool verdict = map && data_type == NFT_DATA_VERDICT;
    auto key = parts_of(number(NFTA_SET_KEY_TYPE));
    const auto data = map && !verdict ? parts_of(data_type) : std::optional(std::vector<SetPart>{});
    if (!key || !data || (map && !verdict && data->empty())) {
        return std::nullopt;
    }
    auto set = make_set(*std::move(key), *data, verdict);
    if (set) {
        set->name = *name;
    }
    return set;
}

void add_nft_elements(const Message& message, NftSet& set) {
    const auto attributes =
        message.family_header<nfgenmsg>() == nullptr
            ? std::nullopt
            : AttributeTable<NFTA_SET_ELEM_LIST_ELEMENTS>::parse(message.payload.subspan(sizeof(nfgenmsg)));
    bool understood = attributes.has_value();
    const auto elements = understood ? attributes->find(NFTA_SET_ELEM_LIST_ELEMENTS) : std::nullopt;
    const bool whole = for_each_attribute(
        elements.value_or(Bytes{}),
        [&](std::uint16_t /*NFTA_LIST_ELEM*/, Bytes element) { understood = add_element(element, set) && understood; });
    set.whole = set.whole && understood && whole;
}

}  // namespace hptrace
