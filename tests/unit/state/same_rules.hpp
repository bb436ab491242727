// SPDX-License-Identifier: GPL-2.0-or-later
// Holds the rules one reader gives against those of another.
#pragma once

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <string>
#include <vector>

#include "rules.hpp"
#include "state/rule_text.hpp"

// Without what only the kernel knows, and without what no rule depends on.
inline std::vector<hptrace::RuleTable> comparable(std::vector<hptrace::RuleTable> tables) {
    for (auto& table : tables) {
        // iptables-save shows base chains that iptables-nft has not created yet.
        std::erase_if(table.chains, [](const hptrace::Chain& chain) { return chain.hook && chain.rules.empty(); });
        std::ranges::sort(table.chains, {}, &hptrace::Chain::name);
        for (auto& set : table.sets) {
            std::ranges::sort(set.elements);
        }
        for (auto& chain : table.chains) {
            for (auto& rule : chain.rules) {
                rule.handle.reset();
                rule.legacy.reset();
                for (auto& condition : rule.conditions) {
                    if (condition.starts_with("-m mark ")) {  // iptables-nft has it as an expression of its own
                        condition = "meta mark";
                    }
                }
                for (auto& map : rule.maps) {
                    std::ranges::sort(map.elements);
                }
                for (auto& unread : rule.unread) {
                    if (unread.starts_with("map @__map")) {  // the kernel numbers them
                        unread = "map @__map";
                    }
                }
            }
        }
    }
    std::ranges::sort(tables, {}, [](const hptrace::RuleTable& table) {
        return std::tuple(table.backend, table.families, table.name);
    });
    return tables;
}

inline std::string set_text(const hptrace::NftSet& set) {
    std::string text = set.name + (set.whole ? "" : " (not whole)");
    for (const auto& element : set.elements) {
        text += "\n  " + hptrace::element_text(set.key, set.data, element);
    }
    return text;
}

inline void check_same(std::vector<hptrace::RuleTable> left, std::vector<hptrace::RuleTable> right) {
    left = comparable(std::move(left));
    right = comparable(std::move(right));
    REQUIRE(left.size() == right.size());
    for (std::size_t i = 0; i < left.size(); ++i) {
        INFO("table " << left[i].name);
        CHECK(left[i].name == right[i].name);
        CHECK(left[i].backend == right[i].backend);
        CHECK(left[i].families == right[i].families);
        REQUIRE(left[i].sets.size() == right[i].sets.size());
        for (std::size_t n = 0; n < left[i].sets.size(); ++n) {
            const auto& one = left[i].sets[n];
            const auto& other = right[i].sets[n];
            INFO("left  " << set_text(one));
            INFO("right " << set_text(other));
            CHECK(one == other);
        }
        REQUIRE(left[i].chains.size() == right[i].chains.size());
        for (std::size_t c = 0; c < left[i].chains.size(); ++c) {
            const auto& one = left[i].chains[c];
            const auto& other = right[i].chains[c];
            INFO("chain " << one.name);
            CHECK(one.name == other.name);
            CHECK(one.hook == other.hook);
            CHECK(one.priority == other.priority);
            CHECK(one.type == other.type);
            REQUIRE(one.rules.size() == other.rules.size());
            for (std::size_t r = 0; r < one.rules.size(); ++r) {
                INFO("left  " << hptrace::rule_text(left[i].backend, one.name, one.rules[r]));
                INFO("right " << hptrace::rule_text(right[i].backend, other.name, other.rules[r]));
                CHECK(one.rules[r] == other.rules[r]);
            }
        }
    }
}
