// SPDX-License-Identifier: GPL-2.0-or-later
// Sets and maps of nf_tables as the kernel gives them, nothing of it trusted.
#pragma once

#include <linux/netfilter/nf_tables.h>

#include <optional>

#include "state/netlink.hpp"
#include "state/ruleset.hpp"

namespace hptrace {

// NFTA_SET_* of a message.
using NftSetAttributes = AttributeTable<NFTA_SET_HANDLE>;

// A set without its elements. Nothing: it is of a type that is not evaluated, or its elements are not single values
// that only kube-proxy or a runtime changes (ranges; elements that packets add and time removes).
std::optional<NftSet> decode_nft_set(const NftSetAttributes& raw);

// Adds the elements of one message of a dump of `set`; what is not understood makes it less than whole.
void add_nft_elements(const Message& message, NftSet& set);

}  // namespace hptrace
