// SPDX-License-Identifier: GPL-2.0-or-later
// What messages of nf_tables are about, in dumps and in notifications alike (net/netfilter/nf_tables_api.c), nothing of
// it trusted.
#pragma once

#include <linux/netfilter/nfnetlink.h>

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "state/netlink.hpp"
#include "state/ruleset.hpp"

namespace hptrace {

// A table's family (NFPROTO_*) and name.
using NftTableKey = std::pair<int, std::string>;

// The families a table of this NFPROTO_* is for; none: arp, bridge and netdev have no nat.
std::vector<Family> families_of(int nfproto);

// NFT_MSG_NEWCHAIN, NFT_MSG_DELCHAIN: the chain without its rules.
struct NftChainMessage {
    NftTableKey table;
    std::uint64_t handle = 0;
    Chain chain;
};
std::optional<NftChainMessage> parse_nft_chain(const Message& message);

// NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE.
struct NftTableMessage {
    NftTableKey table;
    bool owned = false;  // it goes with the process that made it, without a new generation (NFT_TABLE_F_OWNER)
};
std::optional<NftTableMessage> parse_nft_table(const Message& message);

// NFT_MSG_NEWSET, NFT_MSG_DELSET.
struct NftSetMessage {
    NftTableKey table;
    std::string name;
    std::uint64_t handle = 0;
    std::optional<NftSet> set;  // absent: of a kind that is not evaluated
};
std::optional<NftSetMessage> parse_nft_set(const Message& message);

// What rules and elements are in: a chain, a set. Views into the message.
struct NftPlace {
    int family = 0;
    std::string_view table;
    std::string_view name;
};
std::optional<NftPlace> chain_of_nft_rule(const Message& message);
std::optional<NftPlace> set_of_nft_elements(const Message& message);

// NFT_MSG_NEWGEN.
std::optional<std::uint32_t> parse_nft_generation(const Message& message);

// The attributes behind the header of nf_tables' messages; nothing: the message is cut off.
template <std::uint16_t highest>
std::optional<AttributeTable<highest>> nft_attributes(const Message& message) {
    return message.family_header<nfgenmsg>() == nullptr
               ? std::nullopt
               : AttributeTable<highest>::parse(message.payload.subspan(sizeof(nfgenmsg)));
}

// Of which kind the message is (NFT_MSG_*); nothing: it is none of nf_tables.
std::optional<unsigned> nft_message_kind(const Message& message);

}  // namespace hptrace
