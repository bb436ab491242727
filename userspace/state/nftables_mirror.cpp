// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/nftables_mirror.hpp"

#include <fmt/format.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <iterator>
#include <set>

#include "state/nft_set.hpp"
#include "state/nftables_rule.hpp"
#include "state/nftables_set.hpp"

namespace hptrace {
namespace {

std::unexpected<Error> malformed(std::string_view what) {
    return failure(fmt::format("nf_tables: cannot parse a {}", what));
}

int nfproto_of(const std::vector<Family>& families) {
    if (families.size() > 1) {
        return NFPROTO_INET;
    }
    return families.front() == Family::ipv4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
}

// Of anonymous sets only maps are followed.
bool is_evaluated(const std::optional<NftSet>& set) {
    return set && (set->data != SetData::none || !set->name.starts_with("__"));
}

}  // namespace

void NftMirror::restart(std::uint32_t generation) {
    tables_.clear();
    generation_ = generation;
    listed_ = false;
    changed_ = false;
    lent_ = false;
    objects_ = 0;
    rules_.clear();
}

NftMirror::Table* NftMirror::find(int family, std::string_view table) {
    const auto found = tables_.find({family, std::string(table)});
    return found == tables_.end() ? nullptr : &found->second;
}

bool NftMirror::matters(const NftTableKey& key, const Table& table) {
    return can_hold_nat(key.second, table.nat_chains > 0);
}

Result<void> NftMirror::count(std::size_t objects, const Message& message) {
    objects_ += objects;
    bytes_ += message.header->nlmsg_len;
    if (objects_ <= limits_.objects && bytes_ <= limits_.bytes) {
        return {};
    }
    return system_error(fmt::format("nf_tables: more than {} chains, rules and elements, or than {} MiB of them",
                                    limits_.objects, limits_.bytes >> 20U),
                        EFBIG);
}

Result<void> NftMirror::add_chain(const Message& message) {
    auto parsed = parse_nft_chain(message);
    if (!parsed) {
        return malformed("chain");
    }
    put_chain(*std::move(parsed));
    return count(0, message);
}

void NftMirror::put_chain(NftChainMessage&& message) {
    auto families = families_of(message.table.first);
    if (families.empty()) {
        return;
    }
    Table& table = tables_[message.table];
    table.families = std::move(families);
    const auto [at, is_new] = table.chains.try_emplace(message.handle);
    KnownChain& known = at->second;
    Chain& chain = known.chain;
    const auto is_nat = [](const Chain& any) { return any.type == "nat" ? 1U : 0U; };
    table.nat_chains += is_nat(message.chain);
    if (is_new) {
        ++objects_;
    } else {
        table.nat_chains -= is_nat(chain);
        if (chain.name != message.chain.name) {  // renamed: rules that lead to it say so
            table.chain_by_name.erase(chain.name);
            for (auto& [handle, other] : table.chains) {
                forget(other);
            }
        }
    }
    changed_ = changed_ || is_new || chain.name != message.chain.name || chain.hook != message.chain.hook ||
               chain.priority != message.chain.priority || chain.type != message.chain.type;
    chain.name = std::move(message.chain.name);
    chain.hook = std::move(message.chain.hook);
    chain.priority = message.chain.priority;
    chain.type = std::move(message.chain.type);
    table.chain_by_name[chain.name] = &known;
}

void NftMirror::remove_chain(const NftChainMessage& message) {
    Table* const table = find(message.table.first, message.table.second);
    const auto found =
        table == nullptr ? std::map<std::uint64_t, KnownChain>::iterator{} : table->chains.find(message.handle);
    if (table == nullptr || found == table->chains.end()) {
        return;
    }
    KnownChain& known = found->second;
    changed_ = changed_ || matters(message.table, *table);
    forget(known);
    --objects_;
    table->nat_chains -= known.chain.type == "nat" ? 1U : 0U;
    if (const auto name = table->chain_by_name.find(known.chain.name);
        name != table->chain_by_name.end() && name->second == &known) {
        table->chain_by_name.erase(name);
    }
    table->chains.erase(found);
}

void NftMirror::erase_table(const NftTableKey& key) {
    const auto found = tables_.find(key);
    if (found == tables_.end()) {
        return;
    }
    changed_ = changed_ || matters(key, found->second);
    for (auto& [handle, chain] : found->second.chains) {
        forget(chain);
    }
    for (auto& [name, set] : found->second.sets) {
        forget(set);
    }
    objects_ -= found->second.chains.size();
    tables_.erase(found);
}

bool NftMirror::set_tables(const std::vector<NftTableMessage>& tables) {
    std::set<NftTableKey> there;
    for (const auto& table : tables) {
        there.insert(table.table);
        put_table(table);
    }
    std::vector<NftTableKey> gone;
    for (const auto& [key, table] : tables_) {
        if (!there.contains(key)) {
            gone.push_back(key);
        }
    }
    std::ranges::for_each(gone, [this](const auto& key) { erase_table(key); });
    return !gone.empty();
}

void NftMirror::put_table(const NftTableMessage& message) {
    auto families = families_of(message.table.first);
    if (!families.empty()) {
        Table& table = tables_[message.table];
        table.families = std::move(families);
        table.owned = message.owned;
    }
}

std::vector<NftTableKey> NftMirror::owned_tables() const {
    std::vector<NftTableKey> owned;
    for (const auto& [key, table] : tables_) {
        if (table.owned) {
            owned.push_back(key);
        }
    }
    return owned;
}

Result<void> NftMirror::add_set(const Message& message) {
    auto parsed = parse_nft_set(message);
    if (!parsed) {
        return malformed("set");
    }
    put_set(*std::move(parsed));
    return count(0, message);
}

void NftMirror::put_set(NftSetMessage&& message) {
    const auto families = families_of(message.table.first);
    if (families.empty() || !sets_matter(message.table.second)) {
        return;
    }
    Table& table = tables_[message.table];
    table.families = families;
    if (const auto old = table.sets.find(message.name); old != table.sets.end()) {
        forget(old->second);
        table.sets.erase(old);
    }
    table.known_sets.erase(message.name);
    changed_ = true;
    if (is_evaluated(message.set)) {
        table.known_sets.emplace(message.name, KnownSet{.handle = message.handle});
        table.sets.emplace(std::move(message.name), *std::move(message.set));
    }
}

void NftMirror::remove_set(const NftSetMessage& message) {
    Table* const table = find(message.table.first, message.table.second);
    if (table == nullptr) {
        return;
    }
    const auto known = table->known_sets.find(message.name);
    // By then another one may have got the name of an anonymous set.
    if (known == table->known_sets.end() || known->second.handle != message.handle) {
        return;
    }
    table->known_sets.erase(known);
    if (const auto set = table->sets.find(message.name); set != table->sets.end()) {
        forget(set->second);
        table->sets.erase(set);
    }
    changed_ = true;
}

void NftMirror::rules_changed(const NftPlace& place) {
    Table* const table = find(place.family, place.table);
    const auto chain = table == nullptr ? std::unordered_map<std::string, KnownChain*>::iterator{}
                                        : table->chain_by_name.find(std::string(place.name));
    if (table != nullptr && chain != table->chain_by_name.end() && chain->second->read) {
        chain->second->read = false;
        changed_ = true;
    }
}

void NftMirror::elements_changed(const NftPlace& place) {
    Table* const table = find(place.family, place.table);
    const auto set = table == nullptr ? std::unordered_map<std::string, KnownSet>::iterator{}
                                      : table->known_sets.find(std::string(place.name));
    if (table != nullptr && set != table->known_sets.end() && set->second.read) {
        set->second.read = false;
        changed_ = true;
    }
}

Result<void> NftMirror::notified(const Message& message) {
    const auto kind = nft_message_kind(message);
    if (!kind) {
        return {};
    }
    const auto with = [](auto parsed, std::string_view what, const auto& apply) -> Result<void> {
        if (!parsed) {
            return malformed(fmt::format("notification of a {}", what));
        }
        apply(*std::move(parsed));
        return {};
    };
    switch (*kind) {
        case NFT_MSG_NEWTABLE:
        case NFT_MSG_DELTABLE:
            return with(parse_nft_table(message), "table", [&](NftTableMessage&& table) {
                if (*kind == NFT_MSG_DELTABLE) {
                    erase_table(table.table);
                } else {
                    put_table(table);
                }
            });
        case NFT_MSG_NEWCHAIN:
            return with(parse_nft_chain(message), "chain",
                        [&](NftChainMessage&& chain) { put_chain(std::move(chain)); });
        case NFT_MSG_DELCHAIN:
            return with(parse_nft_chain(message), "chain", [&](NftChainMessage&& chain) { remove_chain(chain); });
        case NFT_MSG_NEWRULE:
        case NFT_MSG_DELRULE:
            return with(chain_of_nft_rule(message), "rule", [&](NftPlace&& place) { rules_changed(place); });
        case NFT_MSG_NEWSET:
            return with(parse_nft_set(message), "set", [&](NftSetMessage&& set) { put_set(std::move(set)); });
        case NFT_MSG_DELSET:
            return with(parse_nft_set(message), "set", [&](NftSetMessage&& set) { remove_set(set); });
        case NFT_MSG_NEWSETELEM:
        case NFT_MSG_DELSETELEM:
            return with(set_of_nft_elements(message), "set's elements",
                        [&](NftPlace&& place) { elements_changed(place); });
        case NFT_MSG_NEWGEN:
            return with(parse_nft_generation(message), "generation", [&](std::uint32_t generation) {
                // One from before the listing began may still have been on its way. Generations wrap around.
                if (static_cast<std::int32_t>(generation - generation_) > 0) {
                    generation_ = generation;
                }
            });
        default:
            return {};
    }
}

void NftMirror::forget(KnownChain& chain) {
    objects_ -= std::exchange(chain.rules, 0);
    chain.chain.rules = {};
    chain.read = false;
}

void NftMirror::forget(NftSet& set) {
    objects_ -= set.elements.size();
    set.elements = {};
    set.whole = true;
}

Result<void> NftMirror::read_sets(const std::function<Result<void>(const NftTableKey&, NftSet&)>& read) {
    for (auto& [key, table] : tables_) {
        for (auto& [name, known] : table.known_sets) {
            if (known.read) {
                continue;
            }
            NftSet& set = table.sets.at(name);
            forget(set);
            if (const auto done = read(key, set); !done) {
                return done;
            }
            known.read = true;
        }
    }
    return {};
}

Result<void> NftMirror::add_elements(const Message& message, NftSet& set) {
    const auto before = set.elements.size();
    add_nft_elements(message, set);
    return count(set.elements.size() - before, message);
}

Result<void> NftMirror::add_rule(const Message& message) {
    const auto place = chain_of_nft_rule(message);
    const auto attributes = nft_attributes<NFTA_RULE_USERDATA>(message);
    if (!place || !attributes) {
        return malformed("rule");
    }
    if (place->family != key_->first || place->table != key_->second || place->name != chain_) {
        return {};  // a kernel that does not filter
    }
    const auto& families = table_->families;
    rules_.push_back(decode_nft_rule(*attributes, families.size() == 1 ? std::optional(families.front()) : std::nullopt,
                                     set_name_, table_->sets));
    return count(1, message);
}

Result<void> NftMirror::read_chains(const SetNameOf& set_name,
                                    const std::function<Result<void>(const NftTableKey&, const std::string&)>& read) {
    set_name_ = set_name;
    const bool lost = std::exchange(lent_, false);
    for (auto& [key, table] : tables_) {
        const bool needed = matters(key, table);
        for (auto& [handle, chain] : table.chains) {
            if (lost || !needed) {
                forget(chain);
            }
            if (!needed || chain.read) {
                continue;
            }
            forget(chain);
            key_ = &key;
            table_ = &table;
            chain_ = chain.chain.name;
            objects_ -= std::exchange(rules_, {}).size();
            if (const auto done = read(key, chain.chain.name); !done) {
                return done;
            }
            chain.chain.rules.assign(std::make_move_iterator(rules_.begin()), std::make_move_iterator(rules_.end()));
            rules_.clear();
            chain.rules = chain.chain.rules.size();
            chain.read = true;
        }
    }
    return {};
}

std::vector<RuleTable> NftMirror::lend() {
    lent_ = true;
    std::vector<RuleTable> tables;
    for (auto& [key, table] : tables_) {
        if (!matters(key, table)) {
            continue;
        }
        RuleTable lent{.families = table.families, .name = key.second, .chains = {}, .sets = {}};
        lent.chains.reserve(table.chains.size());
        for (auto& [handle, known] : table.chains) {
            Chain& chain = lent.chains.emplace_back();
            chain.rules = std::exchange(known.chain.rules, {});
            chain.name = known.chain.name;
            chain.hook = known.chain.hook;
            chain.priority = known.chain.priority;
            chain.type = known.chain.type;
        }
        for (const auto& [name, set] : table.sets) {
            if (!name.starts_with("__")) {
                lent.sets.push_back(set);
            }
        }
        std::ranges::sort(lent.sets, {}, &NftSet::name);
        std::ranges::move(by_back_end(std::move(lent)), std::back_inserter(tables));
    }
    return tables;
}

void NftMirror::take_back(std::vector<RuleTable> tables) {
    if (!std::exchange(lent_, false)) {
        return;
    }
    for (RuleTable& lent : tables) {
        Table* const table = lent.families.empty() ? nullptr : find(nfproto_of(lent.families), lent.name);
        if (table == nullptr) {
            continue;
        }
        for (Chain& chain : lent.chains) {
            const auto known = table->chain_by_name.find(chain.name);
            // A chain of both back ends was lent twice.
            if (known != table->chain_by_name.end() && known->second->chain.rules.empty()) {
                known->second->chain.rules = std::move(chain.rules);
            }
        }
    }
}

}  // namespace hptrace
