// SPDX-License-Identifier: GPL-2.0-or-later
// What is known of the ruleset of nf_tables, and which of it has to be read again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "state/nft_limits.hpp"
#include "state/nft_set.hpp"
#include "state/nftables_message.hpp"
#include "state/ruleset.hpp"
#include "state/set_names.hpp"

namespace hptrace {

// Tables, chains, sets and rules of one network namespace, filled from messages of dumps and of notifications
// (NFNLGRP_NFTABLES). It does no I/O.
//
// A notification tells what a chain or a set is, but of rules and elements only that they changed: their chain or set
// must then be dumped again. (One commit's notifications are sent when all of it is visible, nf_tables_commit().) So
// what is here is the ruleset of one generation as soon as everything that was dumped had no notification since the
// dump was asked for, the last NFT_MSG_NEWGEN had this generation, and the kernel says that it still has.
class NftMirror {
public:
    struct KnownChain {
        Chain chain;
        bool read = false;      // its rules are known
        std::size_t rules = 0;  // how many, also while they are lent
    };
    struct KnownSet {
        std::uint64_t handle = 0;
        bool read = false;  // its elements are known
    };
    struct Table {
        std::vector<Family> families;
        bool owned = false;
        std::size_t nat_chains = 0;
        // By handle: handles grow, so this is the order of the kernel's list.
        std::map<std::uint64_t, KnownChain> chains;
        std::unordered_map<std::string, KnownChain*> chain_by_name;
        // Those that are evaluated, of tables where sets_matter().
        NftSets sets;
        std::unordered_map<std::string, KnownSet> known_sets;
    };

    explicit NftMirror(NftLimits limits) : limits_(limits) {}

    // Forgets everything: it will be listed anew, at this generation.
    void restart(std::uint32_t generation);
    // Is there anything, and has all of it been listed?
    [[nodiscard]] bool listed() const { return listed_; }
    void set_listed() { listed_ = true; }

    // Of a dump: a chain, a set. Messages about other families are left alone.
    Result<void> add_chain(const Message& message);
    Result<void> add_set(const Message& message);
    // The limit of bytes counts from here.
    void begin_reading() { bytes_ = 0; }
    // Of a dump of all tables. Those that it does not tell of are forgotten: they went with their owner, which no
    // generation and no notification says. True: some did.
    bool set_tables(const std::vector<NftTableMessage>& tables);
    // Those that go with their owner.
    [[nodiscard]] std::vector<NftTableKey> owned_tables() const;

    // Chains, rules and elements that are known, lent ones too.
    [[nodiscard]] std::size_t objects() const { return objects_; }

    // Of a notification, in the order they come.
    Result<void> notified(const Message& message);
    // Has a notification changed anything since the last call?
    bool take_changed() { return std::exchange(changed_, false); }
    // The last one that was notified; at first the one at which the listing began.
    [[nodiscard]] std::uint32_t generation() const { return generation_; }

    // Calls read(table, set) for each set whose elements are not known; it fills them in.
    Result<void> read_sets(const std::function<Result<void>(const NftTableKey&, NftSet&)>& read);
    // Calls read(table, chain) for each chain whose rules are not known, of tables that can hold nat rules; rules are
    // added by add_rule(). Those of other tables are forgotten.
    // `set_name`: of the ipsets in these rules.
    Result<void> read_chains(const SetNameOf& set_name,
                             const std::function<Result<void>(const NftTableKey&, const std::string&)>& read);
    // Of a dump of the rules of the chain that read_chains() asks for; of other chains they are left out.
    Result<void> add_rule(const Message& message);
    // Of a dump of the elements of the set that read_sets() asks for.
    Result<void> add_elements(const Message& message, NftSet& set);

    // The tables that can hold nat rules, by family and name, for the first time or again after take_back(). Their
    // chains are moved out of here: without take_back() they have to be read again.
    std::vector<RuleTable> lend();
    void take_back(std::vector<RuleTable> tables);

private:
    Table* find(int family, std::string_view table);
    static bool matters(const NftTableKey& key, const Table& table);
    void put_table(const NftTableMessage& message);
    void erase_table(const NftTableKey& key);
    void put_chain(NftChainMessage&& message);
    void remove_chain(const NftChainMessage& message);
    void put_set(NftSetMessage&& message);
    void remove_set(const NftSetMessage& message);
    void rules_changed(const NftPlace& place);
    void elements_changed(const NftPlace& place);
    // What was known of it is no longer so.
    void forget(KnownChain& chain);
    void forget(NftSet& set);
    Result<void> count(std::size_t objects, const Message& message);

    NftLimits limits_;
    std::map<NftTableKey, Table> tables_;
    std::uint32_t generation_ = 0;
    bool listed_ = false;
    bool changed_ = false;
    bool lent_ = false;
    std::size_t objects_ = 0;
    std::size_t bytes_ = 0;
    // While chains are read: the table and the name of the one, and the rules so far.
    const NftTableKey* key_ = nullptr;
    const Table* table_ = nullptr;
    std::string_view chain_;
    std::vector<Rule> rules_;
    SetNameOf set_name_;
};

}  // namespace hptrace
