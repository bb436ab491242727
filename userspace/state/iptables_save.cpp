// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/iptables_save.hpp"

#include <fmt/format.h>
#include <linux/netfilter_ipv4.h>

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/excerpt.hpp"
#include "state/iptables_rule.hpp"
#include "state/save_text.hpp"

namespace hptrace {
namespace {

// Of the base chains of iptables-nft's nat and filter tables (xtables_ipv4[] in nft.c).
std::int32_t nft_priority(std::string_view table, std::string_view hook) {
    if (table == "filter") {
        return NF_IP_PRI_FILTER;
    }
    return hook == "PREROUTING" || hook == "OUTPUT" ? NF_IP_PRI_NAT_DST : NF_IP_PRI_NAT_SRC;
}

class SaveParser {
public:
    SaveParser(Backend backend, Family family) : backend_(backend), family_(family) {}

    Result<std::vector<RuleTable>> parse(std::string_view text) {
        const auto parsed = for_each_line(text, [this](std::string_view line) { return parse_line(line); });
        if (!parsed) {
            return std::unexpected(parsed.error());
        }
        if (!table_.empty()) {
            return failure(fmt::format("it is cut off: table {} has no COMMIT", excerpt(table_)));
        }
        return std::move(tables_);
    }

private:
    Result<void> parse_line(std::string_view line) {
        if (line.front() == '*') {
            return begin_table(line.substr(1));
        }
        if (table_.empty()) {
            return failure(
                fmt::format("not what iptables-save prints, no table begins before it: '{}'", excerpt(line)));
        }
        if (line == "COMMIT") {
            table_.clear();
            return {};
        }
        if (!wanted()) {
            return {};
        }
        return line.front() == ':' ? add_chain(line.substr(1)) : add_rule(line);
    }

    [[nodiscard]] bool wanted() const { return table_ == "nat" || table_ == "filter"; }

    Result<void> begin_table(std::string_view name) {
        if (!table_.empty()) {
            return failure(
                fmt::format("table {} begins before the COMMIT of table {}", excerpt(name), excerpt(table_)));
        }
        if (name.empty() || std::ranges::find(tables_, name, &RuleTable::name) != tables_.end()) {
            return failure(fmt::format("table '{}' begins a second time", excerpt(name)));
        }
        table_ = name;
        if (wanted()) {
            tables_.push_back({.backend = backend_, .families = {family_}, .name = table_, .chains = {}, .sets = {}});
            chain_at_.clear();
        }
        return {};
    }

    // "PREROUTING ACCEPT [0:0]"; "-" instead of a policy: not a base chain
    Result<void> add_chain(std::string_view line) {
        const auto words = split_words(line);
        if (!words || words->size() < 2) {
            return failure("a chain without a policy");
        }
        const std::string& name = words->front().text;
        auto& chains = tables_.back().chains;
        if (!chain_at_.emplace(name, chains.size()).second) {
            return failure(fmt::format("chain {} is there twice", excerpt(name)));
        }
        Chain& chain = chains.emplace_back();
        chain.name = name;
        if ((*words)[1].text != "-") {
            chain.hook = name;
            if (backend_ == Backend::iptables_nft) {
                chain.priority = nft_priority(table_, name);
                chain.type = table_;
            }
        }
        return {};
    }

    // "-A CHAIN ...", after "[packets:bytes]" if counters were asked for
    Result<void> add_rule(std::string_view line) {
        const auto words = split_words(line);
        if (!words) {
            return std::unexpected(words.error());
        }
        const std::size_t begin = line.front() == '[' ? 1 : 0;
        if (words->size() < begin + 2 || (*words)[begin].text != "-A") {
            return failure(fmt::format("not what iptables-save prints: '{}'", excerpt(line)));
        }
        const std::string& name = (*words)[begin + 1].text;
        const auto chain = chain_at_.find(name);
        if (chain == chain_at_.end()) {
            return failure(fmt::format("a rule in chain {}, which table {} does not have", excerpt(name), table_));
        }
        const auto is_chain = [this](std::string_view target) { return chain_at_.contains(std::string(target)); };
        tables_.back().chains[chain->second].rules.push_back(
            parse_iptables_rule(std::span(*words).subspan(begin + 2), family_, is_chain));
        return {};
    }

    Backend backend_;
    Family family_;
    std::string table_;  // the one being read; empty: none
    std::vector<RuleTable> tables_;
    std::unordered_map<std::string, std::size_t> chain_at_;
};

}  // namespace

Result<std::vector<RuleTable>> parse_iptables_save(std::string_view text, Backend backend, Family family) {
    return SaveParser(backend, family).parse(text);
}

}  // namespace hptrace
