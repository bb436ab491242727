// SPDX-License-Identifier: GPL-2.0-or-later
// The dump of nf_tables: tables that can hold nat rules, their chains, sets and rules, all of one generation.
#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/presence.hpp"
#include "state/netlink.hpp"
#include "state/nft_set.hpp"
#include "state/nftables_rule.hpp"
#include "state/nftables_set.hpp"
#include "state/ruleset.hpp"
#include "state/set_names.hpp"

namespace hptrace {
namespace {

constexpr std::array<std::string_view, NF_INET_NUMHOOKS> hook_names{"PREROUTING", "INPUT", "FORWARD", "OUTPUT",
                                                                    "POSTROUTING"};

struct FreeNftnl {
    void operator()(nftnl_chain* chain) const { nftnl_chain_free(chain); }
    void operator()(nftnl_rule* rule) const { nftnl_rule_free(rule); }
    void operator()(nftnl_set* set) const { nftnl_set_free(set); }
};

using TableKey = std::pair<int, std::string>;  // NFPROTO_*, name

class Dump {
public:
    explicit Dump(NetlinkSocket& socket) : socket_(socket) {}

    ReadIfNew<std::vector<RuleTable>> read(std::optional<std::uint64_t> known);

private:
    // A table while it is being read; chains by name, because rules come as one list of the whole ruleset.
    struct Reading {
        RuleTable table;
        std::unordered_map<std::string, std::size_t> chain_at;
        NftSets sets;
    };

    Result<std::uint32_t> generation();
    Result<void> request(unsigned message, const MessageHandler& handle);
    Result<void> add_chain(const Message& message);
    Result<void> read_sets();
    Result<void> add_set(const Message& message);
    // The kernel gives the elements of one set at a time.
    Result<void> read_elements(const TableKey& table, NftSet& set);
    Result<void> add_rule(const Message& message);
    // The rule when libnftnl does not know one of its expressions: where it is, and that it could not be read.
    Result<void> add_unknown_rule(const Message& message);
    // Null: of a table left out; a chain that is new changes the generation.
    static Chain* chain_of(Reading* reading, const std::string& chain);
    Reading* reading_of(int family, const std::string& table);

    NetlinkSocket& socket_;
    std::map<TableKey, Reading> tables_;
    SetNameOf set_name_ = kernel_set_names();
};

std::vector<Family> families_of(int nfproto) {
    switch (nfproto) {
        case NFPROTO_IPV4:
            return {Family::ipv4};
        case NFPROTO_IPV6:
            return {Family::ipv6};
        case NFPROTO_INET:
            return {Family::ipv4, Family::ipv6};
        default:
            return {};  // arp, bridge, netdev: no nat
    }
}

std::unexpected<Error> changed() {
    return system_error("nf_tables: the ruleset changed while it was read", EINTR);
}

Result<std::uint32_t> Dump::generation() {
    Request request(nfnl_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN), 0);
    auto& header = request.family_header<nfgenmsg>();
    header.nfgen_family = AF_UNSPEC;
    header.version = NFNETLINK_V0;
    std::optional<std::uint32_t> id;
    const auto done = socket_.exchange(request, [&id](const Message& message) -> Result<void> {
        const auto attributes = message.attributes<nfgenmsg>();
        if (!attributes) {
            return std::unexpected(attributes.error());
        }
        id = attributes->number<std::uint32_t>(NFTA_GEN_ID);
        return {};
    });
    if (!done) {
        return std::unexpected(done.error());
    }
    if (!id) {
        return failure("nf_tables: the kernel does not tell its generation");
    }
    return *id;
}

Result<void> Dump::request(unsigned message, const MessageHandler& handle) {
    Request request(nfnl_type(NFNL_SUBSYS_NFTABLES, message), NLM_F_DUMP);
    auto& header = request.family_header<nfgenmsg>();
    header.nfgen_family = AF_UNSPEC;
    header.version = NFNETLINK_V0;
    return socket_.exchange(request, handle);
}

Result<void> Dump::add_chain(const Message& message) {
    const std::unique_ptr<nftnl_chain, FreeNftnl> raw(nftnl_chain_alloc());
    if (!raw || nftnl_chain_nlmsg_parse(message.header, raw.get()) < 0) {
        return failure("nf_tables: cannot parse a chain");
    }
    const int family = static_cast<int>(nftnl_chain_get_u32(raw.get(), NFTNL_CHAIN_FAMILY));
    const char* table = nftnl_chain_get_str(raw.get(), NFTNL_CHAIN_TABLE);
    const char* name = nftnl_chain_get_str(raw.get(), NFTNL_CHAIN_NAME);
    if (table == nullptr || name == nullptr) {
        return failure("nf_tables: a chain without a name");
    }
    auto families = families_of(family);
    if (families.empty()) {
        return {};
    }
    Reading& reading = tables_[{family, table}];
    reading.table.families = std::move(families);
    reading.table.name = table;
    reading.chain_at.emplace(name, reading.table.chains.size());
    Chain& chain = reading.table.chains.emplace_back();
    chain.name = name;
    if (nftnl_chain_is_set(raw.get(), NFTNL_CHAIN_HOOKNUM)) {
        const std::uint32_t hook = nftnl_chain_get_u32(raw.get(), NFTNL_CHAIN_HOOKNUM);
        chain.hook = hook < hook_names.size() ? std::string(hook_names.at(hook)) : "INGRESS";
        chain.priority = nftnl_chain_get_s32(raw.get(), NFTNL_CHAIN_PRIO);
    }
    if (const char* type = nftnl_chain_get_str(raw.get(), NFTNL_CHAIN_TYPE)) {
        chain.type = type;
    }
    return {};
}

Result<void> Dump::read_sets() {
    if (std::ranges::none_of(tables_, [](const auto& item) { return sets_matter(item.second.table); })) {
        return {};
    }
    const auto sets = request(NFT_MSG_GETSET, [this](const Message& message) { return add_set(message); });
    if (!sets) {
        return sets;
    }
    for (auto& [key, reading] : tables_) {
        for (auto& [name, set] : reading.sets) {
            if (const auto elements = read_elements(key, set); !elements) {
                return elements;
            }
        }
    }
    return {};
}

Result<void> Dump::add_set(const Message& message) {
    const std::unique_ptr<nftnl_set, FreeNftnl> raw(nftnl_set_alloc());
    if (!raw || nftnl_set_nlmsg_parse(message.header, raw.get()) < 0) {
        return {};  // rules that look into it are then not understood
    }
    const char* table = nftnl_set_get_str(raw.get(), NFTNL_SET_TABLE);
    Reading* const reading = table == nullptr
                                 ? nullptr
                                 : reading_of(static_cast<int>(nftnl_set_get_u32(raw.get(), NFTNL_SET_FAMILY)), table);
    if (reading == nullptr || !sets_matter(reading->table)) {
        return {};
    }
    auto set = decode_nft_set(*raw);
    // Of anonymous ones only maps are followed.
    if (set && (set->data != SetData::none || !set->name.starts_with("__"))) {
        auto name = set->name;
        reading->sets.emplace(std::move(name), *std::move(set));
    }
    return {};
}

Result<void> Dump::read_elements(const TableKey& table, NftSet& set) {
    Request request(nfnl_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETSETELEM), NLM_F_DUMP);
    auto& header = request.family_header<nfgenmsg>();
    header.nfgen_family = static_cast<std::uint8_t>(table.first);
    header.version = NFNETLINK_V0;
    mnl_attr_put_strz(request.header(), NFTA_SET_ELEM_LIST_TABLE, table.second.c_str());
    mnl_attr_put_strz(request.header(), NFTA_SET_ELEM_LIST_SET, set.name.c_str());
    auto done = socket_.exchange(request, [&set](const Message& message) -> Result<void> {
        add_nft_elements(*message.header, set);
        return {};
    });
    if (!done && done.error().code == ENOENT) {  // removed since sets were listed
        return changed();
    }
    return done;
}

Dump::Reading* Dump::reading_of(int family, const std::string& table) {
    const auto reading = tables_.find({family, table});
    return reading == tables_.end() ? nullptr : &reading->second;
}

Chain* Dump::chain_of(Reading* reading, const std::string& chain) {
    if (reading == nullptr) {
        return nullptr;
    }
    const auto at = reading->chain_at.find(chain);
    return at == reading->chain_at.end() ? nullptr : &reading->table.chains[at->second];
}

Result<void> Dump::add_rule(const Message& message) {
    const std::unique_ptr<nftnl_rule, FreeNftnl> raw(nftnl_rule_alloc());
    if (!raw || nftnl_rule_nlmsg_parse(message.header, raw.get()) < 0) {
        return add_unknown_rule(message);
    }
    const char* table = nftnl_rule_get_str(raw.get(), NFTNL_RULE_TABLE);
    const char* name = nftnl_rule_get_str(raw.get(), NFTNL_RULE_CHAIN);
    if (table == nullptr || name == nullptr) {
        return failure("nf_tables: a rule without a chain");
    }
    const int family = static_cast<int>(nftnl_rule_get_u32(raw.get(), NFTNL_RULE_FAMILY));
    Reading* const reading = reading_of(family, table);
    Chain* const chain = chain_of(reading, name);
    if (chain == nullptr) {
        return {};
    }
    const auto families = families_of(family);
    chain->rules.push_back(decode_nft_rule(*raw, families.size() == 1 ? std::optional(families.front()) : std::nullopt,
                                           set_name_, reading->sets));
    return {};
}

Result<void> Dump::add_unknown_rule(const Message& message) {
    const auto* header = message.family_header<nfgenmsg>();
    const auto attributes = message.attributes<nfgenmsg>();
    if (header == nullptr || !attributes) {
        return failure("nf_tables: cannot parse a rule");
    }
    const auto table = attributes->text(NFTA_RULE_TABLE);
    const auto name = attributes->text(NFTA_RULE_CHAIN);
    Chain* chain = table && name ? chain_of(reading_of(header->nfgen_family, *table), *name) : nullptr;
    if (chain == nullptr) {
        return {};
    }
    Rule& rule = chain->rules.emplace_back();
    if (const auto handle = attributes->number<std::uint64_t>(NFTA_RULE_HANDLE)) {
        rule.handle = be64toh(*handle);
    }
    rule.unread.emplace_back("an expression libnftnl does not know");
    return {};
}

ReadIfNew<std::vector<RuleTable>> Dump::read(std::optional<std::uint64_t> known) {
    const auto before = generation();
    if (!before) {
        return std::unexpected(before.error());
    }
    const std::uint64_t version = std::uint64_t{*before} + 1;
    if (version == known) {
        return std::nullopt;
    }
    const auto chains = request(NFT_MSG_GETCHAIN, [this](const Message& message) { return add_chain(message); });
    if (!chains) {
        return std::unexpected(chains.error());
    }
    std::erase_if(tables_, [](const auto& item) { return !can_hold_nat(item.second.table); });
    if (const auto sets = read_sets(); !sets) {
        return std::unexpected(sets.error());
    }
    const auto rules = request(NFT_MSG_GETRULE, [this](const Message& message) { return add_rule(message); });
    if (!rules) {
        return std::unexpected(rules.error());
    }
    const auto after = generation();
    if (!after) {
        return std::unexpected(after.error());
    }
    if (*after != *before) {
        return changed();
    }
    std::vector<RuleTable> tables;
    for (auto& [key, reading] : tables_) {
        reading.table.backend = nf_tables_backend(reading.table);
        reading.table.sets = named_sets(std::move(reading.sets));
        tables.push_back(std::move(reading.table));
    }
    return Versioned{version, std::move(tables)};
}

}  // namespace

ReadIfNew<std::vector<RuleTable>> read_nf_tables_if_new(std::optional<std::uint64_t> known) {
    // The socket alone would load nfnetlink, the first request nf_tables.
    if (!subsystem_present("nf_tables") || !subsystem_present("nfnetlink")) {
        return known == 0 ? std::nullopt : std::optional(Versioned<std::vector<RuleTable>>{});
    }
    return retry_interrupted([known]() -> ReadIfNew<std::vector<RuleTable>> {
        auto socket = NetlinkSocket::open(NETLINK_NETFILTER, "nf_tables");
        if (!socket) {
            return std::unexpected(socket.error());
        }
        return Dump(*socket).read(known);
    });
}

Result<std::vector<RuleTable>> read_nf_tables() {
    auto read = read_nf_tables_if_new(std::nullopt);
    if (!read) {
        return std::unexpected(read.error());
    }
    auto& all = *read;  // there: nothing was known
    return all ? std::move(all->content) : std::vector<RuleTable>{};
}

}  // namespace hptrace
