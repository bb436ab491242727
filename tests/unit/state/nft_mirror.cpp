// SPDX-License-Identifier: GPL-2.0-or-later
// Which chains and sets have to be read again after which notifications, as the kernel sends them.
#include <arpa/inet.h>
#include <endian.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <catch2/catch_test_macros.hpp>
#include <string>
#include <vector>

#include "messages.hpp"
#include "state/nftables_mirror.hpp"

using namespace hptrace;

namespace {

using Names = std::vector<std::string>;

MessageBuilder message_of(unsigned type, std::uint8_t family = NFPROTO_IPV4) {
    MessageBuilder message(nfnl_type(NFNL_SUBSYS_NFTABLES, type));
    message.extra(nfgenmsg{.nfgen_family = family, .version = NFNETLINK_V0, .res_id = 0});
    return message;
}

MessageBuilder chain(unsigned type, const std::string& table, const std::string& name, std::uint64_t handle,
                     bool nat = false) {
    auto message = message_of(type);
    message.text(NFTA_CHAIN_TABLE, table).attribute(NFTA_CHAIN_HANDLE, htobe64(handle)).text(NFTA_CHAIN_NAME, name);
    if (nat) {
        message.nest(NFTA_CHAIN_HOOK, [](MessageBuilder& hook) {
            hook.attribute(NFTA_HOOK_HOOKNUM, htonl(NF_INET_PRE_ROUTING));
            hook.attribute(NFTA_HOOK_PRIORITY, htonl(static_cast<std::uint32_t>(-100)));
        });
        message.text(NFTA_CHAIN_TYPE, "nat");
    }
    return message;
}

// A rule that jumps.
MessageBuilder rule(unsigned type, const std::string& table, const std::string& in, const std::string& to) {
    auto message = message_of(type);
    message.text(NFTA_RULE_TABLE, table).text(NFTA_RULE_CHAIN, in);
    message.nest(NFTA_RULE_EXPRESSIONS, [&](MessageBuilder& list) {
        list.nest(NFTA_LIST_ELEM, [&](MessageBuilder& element) {
            element.text(NFTA_EXPR_NAME, "immediate").nest(NFTA_EXPR_DATA, [&](MessageBuilder& data) {
                data.attribute(NFTA_IMMEDIATE_DREG, htonl(NFT_REG_VERDICT));
                data.nest(NFTA_IMMEDIATE_DATA, [&](MessageBuilder& value) {
                    value.nest(NFTA_DATA_VERDICT, [&](MessageBuilder& verdict) {
                        verdict.attribute(NFTA_VERDICT_CODE, htonl(static_cast<std::uint32_t>(NFT_JUMP)));
                        verdict.text(NFTA_VERDICT_CHAIN, to);
                    });
                });
            });
        });
    });
    return message;
}

// "map ports { type inet_service : verdict }"
MessageBuilder set(unsigned type, const std::string& table, const std::string& name, std::uint64_t handle) {
    auto message = message_of(type);
    message.text(NFTA_SET_TABLE, table).text(NFTA_SET_NAME, name);
    message.attribute(NFTA_SET_FLAGS, htonl(NFT_SET_MAP)).attribute(NFTA_SET_KEY_TYPE, htonl(13));
    message.attribute(NFTA_SET_DATA_TYPE, htonl(NFT_DATA_VERDICT)).attribute(NFTA_SET_HANDLE, htobe64(handle));
    return message;
}

MessageBuilder elements(unsigned type, const std::string& table, const std::string& name) {
    auto message = message_of(type);
    message.text(NFTA_SET_ELEM_LIST_TABLE, table).text(NFTA_SET_ELEM_LIST_SET, name);
    return message;
}

MessageBuilder table(unsigned type, const std::string& name, std::uint32_t flags = 0) {
    auto message = message_of(type);
    message.text(NFTA_TABLE_NAME, name).attribute(NFTA_TABLE_FLAGS, htonl(flags));
    return message;
}

MessageBuilder generation(std::uint32_t id) {
    auto message = message_of(NFT_MSG_NEWGEN, NFPROTO_UNSPEC);
    message.attribute(NFTA_GEN_ID, htonl(id));
    return message;
}

const SetNameOf no_names = [](std::uint16_t) { return std::optional<std::string>(); };

// A ruleset that was listed and read: table ip nat with base chain "base" and chains "one", "two".
class Read {
public:
    explicit Read(NftLimits limits = own_limits) : mirror(limits) {
        mirror.restart(10);
        CHECK(mirror.add_chain(chain(NFT_MSG_NEWCHAIN, "nat", "base", 1, true).message()));
        CHECK(mirror.add_chain(chain(NFT_MSG_NEWCHAIN, "nat", "one", 2).message()));
        CHECK(mirror.add_chain(chain(NFT_MSG_NEWCHAIN, "nat", "two", 3).message()));
        mirror.set_listed();
        mirror.take_changed();
        fill();
    }

    // What is read, in its order.
    Names fill() {
        Names read;
        CHECK(mirror.read_sets([&](const NftTableKey& key, NftSet& set) -> Result<void> {
            read.push_back("@" + set.name);
            auto message = elements(NFT_MSG_NEWSETELEM, key.second, set.name);
            return mirror.add_elements(message.message(), set);
        }));
        const auto chains = mirror.read_chains(no_names, [&](const NftTableKey& key, const std::string& name) {
            read.push_back(name);
            return mirror.add_rule(rule(NFT_MSG_NEWRULE, key.second, name, "one").message());
        });
        error = chains ? 0 : chains.error().code;
        return read;
    }
    // What has to be read after this was notified.
    Names after(std::vector<MessageBuilder> messages) {
        for (auto& message : messages) {
            CHECK(mirror.notified(message.message()));
        }
        changed = mirror.take_changed();
        return fill();
    }

    static constexpr NftLimits own_limits{.objects = 1000, .bytes = 1U << 20U};
    NftMirror mirror;
    bool changed = false;
    int error = 0;
};

}  // namespace

TEST_CASE("rules that are added or removed make their chain be read again, once", "[nft_mirror]") {
    Read read;
    CHECK(read.fill().empty());
    CHECK(read.after({rule(NFT_MSG_NEWRULE, "nat", "one", "two"), rule(NFT_MSG_NEWRULE, "nat", "one", "two")}) ==
          Names{"one"});
    CHECK(read.changed);
    CHECK(read.after({rule(NFT_MSG_DELRULE, "nat", "two", "one")}) == Names{"two"});
    CHECK(read.after({}).empty());
    CHECK_FALSE(read.changed);
    // Of tables that hold no nat rules, chains that do not exist, other families.
    CHECK(read.after({rule(NFT_MSG_NEWRULE, "fw", "one", "two"), rule(NFT_MSG_NEWRULE, "nat", "none", "two")}).empty());
    CHECK_FALSE(read.changed);
}

TEST_CASE("chains come, go, and are renamed", "[nft_mirror]") {
    Read read;
    CHECK(read.after({chain(NFT_MSG_NEWCHAIN, "nat", "three", 4)}) == Names{"three"});
    CHECK(read.changed);
    // Deleted and made again under the same name, in one commit.
    CHECK(read.after({chain(NFT_MSG_DELCHAIN, "nat", "three", 4), chain(NFT_MSG_NEWCHAIN, "nat", "three", 5)}) ==
          Names{"three"});
    CHECK(read.after({chain(NFT_MSG_DELCHAIN, "nat", "three", 4)}).empty());  // the older one: long gone
    CHECK(read.after({chain(NFT_MSG_DELCHAIN, "nat", "three", 5)}).empty());
    CHECK(read.changed);
    // Rules that lead to a renamed chain say so.
    CHECK(read.after({chain(NFT_MSG_NEWCHAIN, "nat", "uno", 2)}) == Names{"base", "uno", "two"});
    const auto tables = read.mirror.lend();
    REQUIRE(tables.size() == 1);
    CHECK(tables[0].find_chain("one") == nullptr);
    CHECK(tables[0].find_chain("uno") != nullptr);
}

TEST_CASE("a table goes with all that is in it, with or without a notification", "[nft_mirror]") {
    Read read;
    CHECK(read.after({table(NFT_MSG_DELTABLE, "nat")}).empty());
    CHECK(read.changed);
    CHECK(read.mirror.lend().empty());

    Read other;
    CHECK(other.mirror.owned_tables().empty());
    CHECK(other.after({table(NFT_MSG_NEWTABLE, "nat", 2)}).empty());
    CHECK(other.mirror.owned_tables().size() == 1);
    auto still = table(NFT_MSG_NEWTABLE, "nat", 2);
    CHECK_FALSE(other.mirror.set_tables({parse_nft_table(still.message()).value()}));
    CHECK(other.mirror.set_tables({}));
    CHECK(other.mirror.lend().empty());
    // One that has no chain yet when tables are listed.
    auto empty = table(NFT_MSG_NEWTABLE, "later", 2);
    other.mirror.set_tables({parse_nft_table(empty.message()).value()});
    CHECK(other.after({chain(NFT_MSG_NEWCHAIN, "later", "pre", 1, true)}) == Names{"pre"});
    CHECK(other.mirror.owned_tables().size() == 1);
}

TEST_CASE("a table begins to matter with its first nat chain", "[nft_mirror]") {
    Read read;
    CHECK(read.after({chain(NFT_MSG_NEWCHAIN, "mine", "helper", 1)}).empty());
    CHECK(read.after({chain(NFT_MSG_NEWCHAIN, "mine", "pre", 2, true)}) == Names{"helper", "pre"});
    CHECK(read.mirror.lend().size() == 2);
}

TEST_CASE("sets are followed where they matter, by handle", "[nft_mirror]") {
    Read read;
    CHECK(read.after({set(NFT_MSG_NEWSET, "nat", "ports", 1)}).empty());
    CHECK(read.after({chain(NFT_MSG_NEWCHAIN, "kube-proxy", "pre", 1, true),
                      set(NFT_MSG_NEWSET, "kube-proxy", "ports", 2), set(NFT_MSG_NEWSET, "kube-proxy", "__map0", 3)})
              .size() == 3);
    CHECK(read.after({elements(NFT_MSG_NEWSETELEM, "kube-proxy", "ports")}) == Names{"@ports"});
    CHECK(read.after({elements(NFT_MSG_DELSETELEM, "kube-proxy", "ports")}) == Names{"@ports"});
    // The name of an anonymous set is given to another one before the notification that the first is gone.
    CHECK(read.after({set(NFT_MSG_NEWSET, "kube-proxy", "__map0", 4),
                      set(NFT_MSG_DELSET, "kube-proxy", "__map0", 3)}) == Names{"@__map0"});
    CHECK(read.after({elements(NFT_MSG_NEWSETELEM, "kube-proxy", "__map0")}) == Names{"@__map0"});
    CHECK(read.after({set(NFT_MSG_DELSET, "kube-proxy", "__map0", 4)}).empty());
    CHECK(read.after({elements(NFT_MSG_NEWSETELEM, "kube-proxy", "__map0")}).empty());
}

TEST_CASE("the generation is the last one that was notified, none from before the listing", "[nft_mirror]") {
    Read read;
    CHECK(read.mirror.generation() == 10);
    read.after({generation(9)});
    CHECK(read.mirror.generation() == 10);
    read.after({generation(11), generation(12)});
    CHECK(read.mirror.generation() == 12);
    read.mirror.restart(0xffffffff);
    read.after({generation(1)});  // they wrap around
    CHECK(read.mirror.generation() == 1);
}

TEST_CASE("what was lent and given back is not read again, else all is", "[nft_mirror]") {
    Read read;
    auto tables = read.mirror.lend();
    REQUIRE(tables.size() == 1);
    CHECK(tables[0].find_chain("one")->rules.size() == 1);
    read.mirror.take_back(std::move(tables));
    CHECK(read.fill().empty());
    CHECK(read.mirror.lend().at(0).find_chain("one")->rules.size() == 1);
    CHECK(read.fill() == Names{"base", "one", "two"});  // it was kept
}

TEST_CASE("a ruleset beyond the limits is an error, not all the memory there is", "[nft_mirror]") {
    Read read({.objects = 7, .bytes = 1U << 20U});  // three chains, three rules, and one
    CHECK(read.error == 0);
    CHECK(read.after({chain(NFT_MSG_NEWCHAIN, "nat", "three", 4)}) == Names{"three"});
    CHECK(read.error == EFBIG);
    Read large({.objects = 1000, .bytes = 400});
    CHECK(large.error == EFBIG);
}

TEST_CASE("a notification of another shape is an error", "[nft_mirror]") {
    Read read;
    for (const unsigned type :
         {NFT_MSG_NEWTABLE, NFT_MSG_DELCHAIN, NFT_MSG_NEWRULE, NFT_MSG_DELSET, NFT_MSG_NEWSETELEM, NFT_MSG_NEWGEN}) {
        INFO(type);
        CHECK_FALSE(read.mirror.notified(message_of(type).message()));
    }
    CHECK(read.mirror.notified(message_of(NFT_MSG_NEWOBJ).message()));
}
