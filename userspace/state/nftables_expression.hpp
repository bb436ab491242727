// SPDX-License-Identifier: GPL-2.0-or-later
// One expression of an nf_tables rule as the kernel gives it (NFTA_EXPR_*, net/netfilter/nft_*.c), nothing of it
// trusted: libnftnl ends the program where an attribute has another size than it knows, and reads on behind a text that
// has no end.
#pragma once

#include <linux/netfilter/nf_tables.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "state/netlink.hpp"

namespace hptrace {

// NFTA_DATA_VERDICT.
struct NftVerdict {
    std::int32_t code = 0;  // NF_ACCEPT, NF_DROP, nft_verdicts
    std::string chain;      // of NFT_JUMP and NFT_GOTO, else empty
};

// The verdict in the attributes NFTA_DATA_*; nothing: there is none, its chain is missing, or has one that needs none.
std::optional<NftVerdict> parse_nft_verdict(Bytes data);
// The value in the attributes NFTA_DATA_*; nothing: there is none, or it is longer than registers are.
std::optional<Bytes> parse_nft_value(Bytes data);

class NftExpression {
public:
    // `element`: what an NFTA_LIST_ELEM of a rule's expressions holds. Nothing: it has no name, or is cut off.
    static std::optional<NftExpression> parse(Bytes element);

    [[nodiscard]] std::string_view name() const { return name_; }
    [[nodiscard]] bool has(std::uint16_t attribute) const { return attributes_.find(attribute).has_value(); }

    // Zero or empty if the attribute is absent; if it is of another shape the expression is malformed from then on.
    std::uint32_t number(std::uint16_t attribute);
    std::string text(std::uint16_t attribute);
    Bytes value(std::uint16_t attribute);  // NFTA_DATA_VALUE in it
    Bytes raw(std::uint16_t attribute);
    NftVerdict verdict(std::uint16_t attribute);

    // False: an attribute that was asked for had another shape.
    [[nodiscard]] bool well_formed() const { return well_formed_; }

private:
    static constexpr std::uint16_t highest_attribute = 15;

    template <class T, class Read>
    T read(std::uint16_t attribute, Read decode);

    std::string_view name_;
    AttributeTable<highest_attribute> attributes_;
    bool well_formed_ = true;
};

}  // namespace hptrace
