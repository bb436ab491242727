// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/nftables_set.hpp"

#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>

#include "state/nft_set.hpp"
#include "state/nftables_rule.hpp"

namespace hptrace {
namespace {

using Data = std::span<const std::uint8_t>;

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

Data data_of(nftnl_set_elem& element, std::uint16_t attribute) {
    std::uint32_t size = 0;
    const void* data = nftnl_set_elem_get(&element, attribute, &size);
    return data == nullptr ? Data{} : Data(static_cast<const std::uint8_t*>(data), size);
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

TargetKind verdict_of(std::uint32_t verdict) {
    switch (static_cast<int>(verdict)) {
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

bool read_verdict(nftnl_set_elem& raw, SetElement& element) {
    if (!nftnl_set_elem_is_set(&raw, NFTNL_SET_ELEM_VERDICT)) {
        return false;
    }
    element.verdict = verdict_of(nftnl_set_elem_get_u32(&raw, NFTNL_SET_ELEM_VERDICT));
    if (const char* chain = nftnl_set_elem_get_str(&raw, NFTNL_SET_ELEM_CHAIN)) {
        element.chain = chain;
    }
    const bool leads_on = element.verdict == TargetKind::jump || element.verdict == TargetKind::go_to;
    return element.verdict != TargetKind::none && leads_on != element.chain.empty();
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

bool read_data(nftnl_set_elem& raw, const NftSet& set, SetElement& element) {
    switch (set.data) {
        case SetData::none:
            return true;
        case SetData::verdict:
            return read_verdict(raw, element);
        case SetData::address:
        case SetData::address_and_port:
            return read_endpoint(data_of(raw, NFTNL_SET_ELEM_DATA), set, element.to);
    }
    return false;
}

void add_element(nftnl_set_elem& raw, NftSet& set) {
    SetElement element;
    const bool has_flags =  // that of all keys no other element has; the end of an interval
        nftnl_set_elem_is_set(&raw, NFTNL_SET_ELEM_FLAGS) && nftnl_set_elem_get_u32(&raw, NFTNL_SET_ELEM_FLAGS) != 0;
    if (has_flags || !read_key(set.key, data_of(raw, NFTNL_SET_ELEM_KEY), element.key) ||
        !read_data(raw, set, element)) {
        set.whole = false;
        return;
    }
    element.comment = user_comment(data_of(raw, NFTNL_SET_ELEM_USERDATA), NFTNL_UDATA_SET_ELEM_COMMENT);
    set.elements.push_back(std::move(element));
}

struct FreeSet {
    void operator()(nftnl_set* set) const { nftnl_set_free(set); }
};

}  // namespace

std::optional<NftSet> decode_nft_set(const nftnl_set& raw) {
    const std::uint32_t flags = nftnl_set_get_u32(&raw, NFTNL_SET_FLAGS);
    if ((flags & (NFT_SET_INTERVAL | NFT_SET_TIMEOUT | NFT_SET_OBJECT)) != 0) {
        return std::nullopt;
    }
    const std::uint32_t data_type = nftnl_set_get_u32(&raw, NFTNL_SET_DATA_TYPE);
    const bool map = (flags & NFT_SET_MAP) != 0;
    const bool verdict = map && data_type == NFT_DATA_VERDICT;
    auto key = parts_of(nftnl_set_get_u32(&raw, NFTNL_SET_KEY_TYPE));
    const auto data = map && !verdict ? parts_of(data_type) : std::optional(std::vector<SetPart>{});
    if (!key || !data || (map && !verdict && data->empty())) {
        return std::nullopt;
    }
    auto set = make_set(*std::move(key), *data, verdict);
    const char* const name = nftnl_set_get_str(&raw, NFTNL_SET_NAME);
    if (set && name != nullptr) {
        set->name = name;
    }
    return set;
}

void add_nft_elements(const nlmsghdr& message, NftSet& set) {
    const std::unique_ptr<nftnl_set, FreeSet> raw(nftnl_set_alloc());
    if (!raw || nftnl_set_elems_nlmsg_parse(&message, raw.get()) < 0) {
        set.whole = false;
        return;
    }
    const auto add = [](nftnl_set_elem* element, void* to) {
        add_element(*element, *static_cast<NftSet*>(to));
        return 0;
    };
    nftnl_set_elem_foreach(raw.get(), add, &set);
}

}  // namespace hptrace
