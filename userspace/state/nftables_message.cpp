// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/nftables_message.hpp"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <array>

#include "state/nftables_set.hpp"

namespace hptrace {
namespace {

constexpr std::array<std::string_view, NF_INET_NUMHOOKS> hook_names{"PREROUTING", "INPUT", "FORWARD", "OUTPUT",
                                                                    "POSTROUTING"};

// NFT_TABLE_F_OWNER (Linux 5.12).
constexpr std::uint32_t table_has_owner = 1U << 1U;

int family_of(const Message& message) {
    return message.family_header<nfgenmsg>()->nfgen_family;
}

std::optional<NftPlace> place_of(const Message& message, std::uint16_t table_attribute, std::uint16_t name_attribute) {
    const auto attributes = nft_attributes<NFTA_RULE_CHAIN>(message);
    const auto table = attributes ? attributes->text(table_attribute) : std::nullopt;
    const auto name = attributes ? attributes->text(name_attribute) : std::nullopt;
    if (!table || !name) {
        return std::nullopt;
    }
    return NftPlace{.family = family_of(message), .table = *table, .name = *name};
}

// False: the hook is malformed.
bool read_hook(Bytes hook, Chain& chain) {
    const auto attributes = AttributeTable<NFTA_HOOK_PRIORITY>::parse(hook);
    const auto number = attributes ? attributes->number<std::uint32_t>(NFTA_HOOK_HOOKNUM) : std::nullopt;
    const auto priority = attributes ? attributes->number<std::uint32_t>(NFTA_HOOK_PRIORITY) : std::nullopt;
    if (!number || !priority) {
        return false;
    }
    chain.hook = *number < hook_names.size() ? std::string(hook_names.at(*number)) : "INGRESS";
    chain.priority = static_cast<std::int32_t>(*priority);
    return true;
}

}  // namespace

std::vector<Family> families_of(int nfproto) {
    switch (nfproto) {
        case NFPROTO_IPV4:
            return {Family::ipv4};
        case NFPROTO_IPV6:
            return {Family::ipv6};
        case NFPROTO_INET:
            return {Family::ipv4, Family::ipv6};
        default:
            return {};
    }
}

std::optional<NftChainMessage> parse_nft_chain(const Message& message) {
    const auto attributes = nft_attributes<NFTA_CHAIN_TYPE>(message);
    if (!attributes) {
        return std::nullopt;
    }
    const auto table = attributes->text(NFTA_CHAIN_TABLE);
    const auto name = attributes->text(NFTA_CHAIN_NAME);
    const auto handle = attributes->number<std::uint64_t>(NFTA_CHAIN_HANDLE);
    if (!table || !name || !handle) {
        return std::nullopt;
    }
    NftChainMessage found{.table = {family_of(message), std::string(*table)}, .handle = *handle, .chain = {}};
    found.chain.name = *name;
    found.chain.type = attributes->text(NFTA_CHAIN_TYPE).value_or("");
    const auto hook = attributes->find(NFTA_CHAIN_HOOK);
    if (hook && !read_hook(*hook, found.chain)) {
        return std::nullopt;
    }
    return found;
}

std::optional<NftTableMessage> parse_nft_table(const Message& message) {
    const auto attributes = nft_attributes<NFTA_TABLE_FLAGS>(message);
    const auto name = attributes ? attributes->text(NFTA_TABLE_NAME) : std::nullopt;
    if (!name) {
        return std::nullopt;
    }
    const auto flags = attributes->number<std::uint32_t>(NFTA_TABLE_FLAGS).value_or(0);
    return NftTableMessage{.table = {family_of(message), std::string(*name)}, .owned = (flags & table_has_owner) != 0};
}

std::optional<NftSetMessage> parse_nft_set(const Message& message) {
    const auto attributes = nft_attributes<NFTA_SET_HANDLE>(message);
    const auto table = attributes ? attributes->text(NFTA_SET_TABLE) : std::nullopt;
    const auto name = attributes ? attributes->text(NFTA_SET_NAME) : std::nullopt;
    if (!table || !name) {
        return std::nullopt;
    }
    return NftSetMessage{.table = {family_of(message), std::string(*table)},
                         .name = std::string(*name),
                         .handle = attributes->number<std::uint64_t>(NFTA_SET_HANDLE).value_or(0),
                         .set = decode_nft_set(*attributes)};
}

std::optional<NftPlace> chain_of_nft_rule(const Message& message) {
    return place_of(message, NFTA_RULE_TABLE, NFTA_RULE_CHAIN);
}

std::optional<NftPlace> set_of_nft_elements(const Message& message) {
    return place_of(message, NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET);
}

std::optional<std::uint32_t> parse_nft_generation(const Message& message) {
    const auto attributes = nft_attributes<NFTA_GEN_ID>(message);
    return attributes ? attributes->number<std::uint32_t>(NFTA_GEN_ID) : std::nullopt;
}

std::optional<unsigned> nft_message_kind(const Message& message) {
    const unsigned type = message.header->nlmsg_type;
    return NFNL_SUBSYS_ID(type) == NFNL_SUBSYS_NFTABLES ? std::optional(NFNL_MSG_TYPE(type)) : std::nullopt;
}

}  // namespace hptrace
