// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/nft_json.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/excerpt.hpp"
#include "state/json_read.hpp"
#include "state/nft_json_set.hpp"

namespace hptrace {
namespace {

using nlohmann::json;

// Families that can hold nat rules, in the order of their NFPROTO_* numbers.
enum class TableFamily : std::uint8_t { inet, ip, ip6 };

std::optional<TableFamily> table_family(std::string_view name) {
    if (name == "inet") {
        return TableFamily::inet;
    }
    if (name == "ip") {
        return TableFamily::ip;
    }
    return name == "ip6" ? std::optional(TableFamily::ip6) : std::nullopt;
}

std::vector<Family> families_of(TableFamily family) {
    switch (family) {
        case TableFamily::ip:
            return {Family::ipv4};
        case TableFamily::ip6:
            return {Family::ipv6};
        case TableFamily::inet:
            break;
    }
    return {Family::ipv4, Family::ipv6};
}

struct Reading {
    RuleTable table;
    std::unordered_map<std::string, std::size_t> chain_at;
    NftSets sets;
};
using Readings = std::map<std::pair<TableFamily, std::string>, Reading>;

Result<void> add_chain(const json& object, Readings& readings) {
    const auto family = table_family(text_of(object, "family").value_or(""));
    if (!family) {
        return {};
    }
    const auto table = text_of(object, "table");
    const auto name = text_of(object, "name");
    if (!table || !name) {
        return failure("a chain without a name");
    }
    Reading& reading = readings[{*family, *table}];
    reading.table.families = families_of(*family);
    reading.table.name = *table;
    if (!reading.chain_at.emplace(*name, reading.table.chains.size()).second) {
        return failure(fmt::format("chain {} of table {} is there twice", excerpt(*name), excerpt(*table)));
    }
    Chain& chain = reading.table.chains.emplace_back();
    chain.name = *name;
    chain.type = text_of(object, "type").value_or("");
    if (auto hook = text_of(object, "hook")) {
        std::ranges::transform(*hook, hook->begin(), [](unsigned char c) { return std::toupper(c); });
        chain.hook = std::move(*hook);
        const auto priority = number_of(object, "prio");
        if (!priority || *priority < std::numeric_limits<std::int32_t>::min() ||
            *priority > std::numeric_limits<std::int32_t>::max()) {
            return failure(fmt::format("chain {} of table {} has no priority", excerpt(*name), excerpt(*table)));
        }
        chain.priority = static_cast<std::int32_t>(*priority);
    }
    return {};
}

Result<void> add_set(const json& object, Readings& readings) {
    const auto family = table_family(text_of(object, "family").value_or(""));
    const auto reading = family ? readings.find({*family, text_of(object, "table").value_or("")}) : readings.end();
    if (reading == readings.end() || !sets_matter(reading->second.table)) {
        return {};
    }
    if (auto set = decode_nft_json_set(object)) {
        auto name = set->name;
        reading->second.sets.emplace(std::move(name), *std::move(set));
    }
    return {};
}

Result<void> add_rule(const json& object, Readings& readings) {
    const auto family = table_family(text_of(object, "family").value_or(""));
    if (!family) {
        return {};
    }
    const auto table = text_of(object, "table").value_or("");
    const auto name = text_of(object, "chain").value_or("");
    const auto reading = readings.find({*family, table});
    if (reading == readings.end()) {
        return failure(fmt::format("a rule of table '{}', which has no chain", excerpt(table)));
    }
    if (!can_hold_nat(reading->second.table)) {
        return {};
    }
    const auto chain = reading->second.chain_at.find(name);
    if (chain == reading->second.chain_at.end()) {
        return failure(
            fmt::format("a rule of chain '{}', which table {} does not have", excerpt(name), excerpt(table)));
    }
    const auto families = families_of(*family);
    const NftSets* const sets = sets_matter(reading->second.table) ? &reading->second.sets : nullptr;
    reading->second.table.chains[chain->second].rules.push_back(
        decode_nft_json_rule(object, families.size() == 1 ? std::optional(families.front()) : std::nullopt, sets));
    return {};
}

}  // namespace

Result<std::vector<RuleTable>> parse_nft_json(std::string_view text) {
    const auto content = parse_json(text);
    if (!content) {
        return std::unexpected(content.error());
    }
    const json* const objects = member(*content, "nftables");
    if (objects == nullptr || !objects->is_array()) {
        return failure("not what nft -j prints: no \"nftables\" in it");
    }
    Readings readings;
    // Rules of a chain may stand before a later chain: chains first, for they say which tables matter, then the sets
    // that rules look into.
    for (const auto& [key, add] : {std::pair{"chain", &add_chain}, std::pair{"set", &add_set},
                                   std::pair{"map", &add_set}, std::pair{"rule", &add_rule}}) {
        for (const auto& object : *objects) {
            if (const json* const value = member(object, key)) {
                if (const auto added = add(*value, readings); !added) {
                    return std::unexpected(added.error());
                }
            }
        }
    }
    std::vector<RuleTable> tables;
    for (auto& [key, reading] : readings) {
        if (can_hold_nat(reading.table)) {
            reading.table.sets = named_sets(std::move(reading.sets));
            std::ranges::move(by_back_end(std::move(reading.table)), std::back_inserter(tables));
        }
    }
    return tables;
}

}  // namespace hptrace
