// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/nftables_expression.hpp"

#include <utility>

namespace hptrace {
namespace {

// NFT_DATA_VALUE_MAXLEN: no value is longer.
constexpr std::size_t longest_value = 64;

}  // namespace

std::optional<NftVerdict> parse_nft_verdict(Bytes data) {
    const auto attributes = AttributeTable<NFTA_DATA_MAX>::parse(data);
    const auto verdict = attributes ? attributes->find(NFTA_DATA_VERDICT) : std::nullopt;
    const auto parts = verdict ? AttributeTable<NFTA_VERDICT_CHAIN>::parse(*verdict) : std::nullopt;
    const auto code = parts ? parts->number<std::uint32_t>(NFTA_VERDICT_CODE) : std::nullopt;
    if (!code) {
        return std::nullopt;
    }
    NftVerdict found{.code = static_cast<std::int32_t>(*code), .chain = {}};
    const auto chain = parts->text(NFTA_VERDICT_CHAIN);
    const bool leads_on = found.code == NFT_JUMP || found.code == NFT_GOTO;
    if (leads_on != (chain && !chain->empty())) {
        return std::nullopt;
    }
    found.chain = chain.value_or("");
    return found;
}

std::optional<Bytes> parse_nft_value(Bytes data) {
    const auto attributes = AttributeTable<NFTA_DATA_MAX>::parse(data);
    const auto value = attributes ? attributes->find(NFTA_DATA_VALUE) : std::nullopt;
    return value && value->size() <= longest_value ? value : std::nullopt;
}

std::optional<NftExpression> NftExpression::parse(Bytes element) {
    const auto parts = AttributeTable<NFTA_EXPR_MAX>::parse(element);
    const auto name = parts ? parts->text(NFTA_EXPR_NAME) : std::nullopt;
    const auto data = parts ? parts->find(NFTA_EXPR_DATA) : std::nullopt;
    auto attributes = AttributeTable<highest_attribute>::parse(data.value_or(Bytes{}));
    if (!name || name->empty() || !attributes) {
        return std::nullopt;
    }
    NftExpression expression;
    expression.name_ = *name;
    expression.attributes_ = *std::move(attributes);
    return expression;
}

template <class T, class Read>
T NftExpression::read(std::uint16_t attribute, Read decode) {
    const auto payload = attributes_.find(attribute);
    if (!payload) {
        return {};
    }
    std::optional<T> found = decode(*payload);
    well_formed_ = well_formed_ && found.has_value();
    return std::move(found).value_or(T{});
}

std::uint32_t NftExpression::number(std::uint16_t attribute) {
    return read<std::uint32_t>(attribute, [](Bytes payload) {
        return payload.size() == sizeof(std::uint32_t) ? std::optional(big_endian<std::uint32_t>(payload))
                                                       : std::nullopt;
    });
}

std::string NftExpression::text(std::uint16_t attribute) {
    return read<std::string>(attribute, [](Bytes payload) {
        return terminated_text(payload).transform([](std::string_view text) { return std::string(text); });
    });
}

Bytes NftExpression::value(std::uint16_t attribute) {
    return read<Bytes>(attribute, parse_nft_value);
}

Bytes NftExpression::raw(std::uint16_t attribute) {
    return attributes_.find(attribute).value_or(Bytes{});
}

NftVerdict NftExpression::verdict(std::uint16_t attribute) {
    return read<NftVerdict>(attribute, parse_nft_verdict);
}

}  // namespace hptrace
