// SPDX-License-Identifier: GPL-2.0-or-later
// Messages of nf_tables of another shape than the kernel writes today: what does not fit is not understood, and nothing
// behind it is read.
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "messages.hpp"
#include "state/nftables_message.hpp"
#include "state/nftables_rule.hpp"
#include "state/nftables_set.hpp"
#include "state/rule_text.hpp"

using namespace hptrace;

namespace {

using Fill = std::function<void(MessageBuilder&)>;

// The message without a byte behind it, so that a sanitizer sees who reads on.
class Exact {
public:
    explicit Exact(MessageBuilder message)
        : size_(message.bytes().size()), bytes_(std::make_unique<std::uint8_t[]>(size_)) {
        std::ranges::copy(message.bytes(), bytes_.get());
    }
    [[nodiscard]] Message message() const {
        const Bytes all(bytes_.get(), size_);
        return {.header = reinterpret_cast<const nlmsghdr*>(all.data()), .payload = all.subspan(sizeof(nlmsghdr))};
    }

private:
    std::size_t size_;
    std::unique_ptr<std::uint8_t[]> bytes_;
};

MessageBuilder message_of(unsigned type) {
    MessageBuilder message(nfnl_type(NFNL_SUBSYS_NFTABLES, type));
    message.extra(nfgenmsg{.nfgen_family = NFPROTO_IPV4, .version = NFNETLINK_V0, .res_id = 0});
    return message;
}

void put_u32(MessageBuilder& message, std::uint16_t type, std::uint32_t value) {
    message.attribute(type, htonl(value));
}

// A text without its NUL.
void put_open_text(MessageBuilder& message, std::uint16_t type, std::string_view text) {
    mnl_attr_put(message.header(), type, text.size(), text.data());
}

void put_expression(MessageBuilder& rule, const std::string& name, const Fill& fill) {
    rule.nest(NFTA_LIST_ELEM,
              [&](MessageBuilder& element) { element.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, fill); });
}

std::string decoded(const Fill& expressions) {
    auto message = message_of(NFT_MSG_NEWRULE);
    message.text(NFTA_RULE_TABLE, "t").text(NFTA_RULE_CHAIN, "c").nest(NFTA_RULE_EXPRESSIONS, expressions);
    const Exact exact(std::move(message));
    const auto attributes = nft_attributes<NFTA_RULE_USERDATA>(exact.message());
    if (!attributes) {
        return "cut off";
    }
    const SetNameOf no_names = [](std::uint16_t) { return std::optional<std::string>(); };
    return rule_text(Backend::nftables, "c", decode_nft_rule(*attributes, Family::ipv4, no_names, {}));
}

std::string one(const std::string& name, const Fill& fill) {
    return decoded([&](MessageBuilder& rule) { put_expression(rule, name, fill); });
}

Fill immediate(const Fill& data) {
    return [data](MessageBuilder& message) {
        put_u32(message, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
        message.nest(NFTA_IMMEDIATE_DATA, data);
    };
}

Fill verdict(int code, const Fill& chain = [](MessageBuilder&) {}) {
    return immediate([code, chain](MessageBuilder& data) {
        data.nest(NFTA_DATA_VERDICT, [&](MessageBuilder& parts) {
            put_u32(parts, NFTA_VERDICT_CODE, static_cast<std::uint32_t>(code));
            chain(parts);
        });
    });
}

// "meta l4proto <operation> 6"
std::string compared(std::uint32_t operation, std::size_t value_size = 1) {
    return decoded([&](MessageBuilder& rule) {
        put_expression(rule, "meta", [](MessageBuilder& meta) {
            put_u32(meta, NFTA_META_KEY, NFT_META_L4PROTO);
            put_u32(meta, NFTA_META_DREG, NFT_REG_1);
        });
        put_expression(rule, "cmp", [&](MessageBuilder& cmp) {
            put_u32(cmp, NFTA_CMP_SREG, NFT_REG_1);
            put_u32(cmp, NFTA_CMP_OP, operation);
            cmp.nest(NFTA_CMP_DATA, [&](MessageBuilder& data) {
                const std::vector<std::uint8_t> value(value_size, 6);
                mnl_attr_put(data.header(), NFTA_DATA_VALUE, value.size(), value.data());
            });
        });
    });
}

NftSet verdict_map() {
    NftSet set;
    set.name = "ports";
    set.key = {SetPart::port};
    set.data = SetData::verdict;
    return set;
}

// An element of it: how many were understood, and whether all were.
std::pair<std::size_t, bool> added(const Fill& element) {
    auto message = message_of(NFT_MSG_NEWSETELEM);
    message.text(NFTA_SET_ELEM_LIST_TABLE, "t").text(NFTA_SET_ELEM_LIST_SET, "ports");
    message.nest(NFTA_SET_ELEM_LIST_ELEMENTS, [&](MessageBuilder& list) { list.nest(NFTA_LIST_ELEM, element); });
    const Exact exact(std::move(message));
    auto set = verdict_map();
    add_nft_elements(exact.message(), set);
    return {set.elements.size(), set.whole};
}

void put_key(MessageBuilder& element) {
    element.nest(NFTA_SET_ELEM_KEY,
                 [](MessageBuilder& key) { key.attribute(NFTA_DATA_VALUE, std::array<std::uint8_t, 4>{0, 80, 0, 0}); });
}

}  // namespace

TEST_CASE("an expression of another shape makes the rule not understood", "[nft_messages]") {
    const auto chain = [](MessageBuilder& parts) { parts.text(NFTA_VERDICT_CHAIN, "c"); };
    CHECK(one("immediate", verdict(NFT_JUMP, chain)) == "jump c");
    CHECK(one("immediate", verdict(NF_DROP)) == "drop");
    CHECK(compared(NFT_CMP_EQ) == "meta l4proto tcp");

    // No name, a name without an end, no chain of a jump, a chain without an end.
    CHECK(decoded([](MessageBuilder& rule) {
              rule.nest(NFTA_LIST_ELEM, [](MessageBuilder& element) { element.nest(NFTA_EXPR_DATA, [](auto&) {}); });
          }) == "[malformed expression]");
    CHECK(decoded([](MessageBuilder& rule) {
              rule.nest(NFTA_LIST_ELEM,
                        [](MessageBuilder& element) { put_open_text(element, NFTA_EXPR_NAME, "meta"); });
          }) == "[malformed expression]");
    CHECK(one("immediate", verdict(NFT_JUMP)).contains("[malformed immediate]"));
    CHECK(one("immediate",
              verdict(NFT_GOTO, [](MessageBuilder& parts) { put_open_text(parts, NFTA_VERDICT_CHAIN, "chain"); }))
              .contains("[malformed immediate]"));
    // Numbers of another size.
    CHECK(one("meta", [](MessageBuilder& meta) {
              meta.attribute(NFTA_META_KEY, std::uint16_t{1});
              put_u32(meta, NFTA_META_DREG, NFT_REG_1);
          }) == "[malformed meta]");
    CHECK(one("nat", [](MessageBuilder& nat) {
              put_u32(nat, NFTA_NAT_TYPE, NFT_NAT_DNAT);
              nat.attribute(NFTA_NAT_FAMILY, std::uint64_t{0});
          }).contains("[malformed nat]"));
    // An operator that is none, a value longer than registers are.
    CHECK(compared(6) == "[cmp]");
    CHECK(compared(0xffffffff) == "[cmp]");
    CHECK(compared(NFT_CMP_EQ, 65).contains("[malformed cmp]"));
    // Texts without an end where the rule names a set or an extension.
    CHECK(one("lookup", [](MessageBuilder& lookup) {
              put_open_text(lookup, NFTA_LOOKUP_SET, "named");
              put_u32(lookup, NFTA_LOOKUP_SREG, NFT_REG_1);
          }).contains("[malformed lookup]"));
    CHECK(one("match", [](MessageBuilder& match) {
              put_open_text(match, NFTA_MATCH_NAME, "tcp");
              put_u32(match, NFTA_MATCH_REV, 0);
              match.attribute(NFTA_MATCH_INFO, std::uint32_t{0});
          }).contains("[malformed match]"));
}

TEST_CASE("an expression that lacks what it needs is not understood", "[nft_messages]") {
    const auto nothing = [](MessageBuilder&) {};
    for (const std::string name : {"meta", "payload", "fib", "ct", "immediate", "bitwise", "cmp", "range", "lookup",
                                   "nat", "match", "target", "rt", "socket", "numgen", "hash"}) {
        INFO(name);
        CHECK(one(name, nothing) == "[malformed " + name + "]");
    }
}

TEST_CASE("a rule that is cut off anywhere is not understood, and nothing behind it is read", "[nft_messages]") {
    auto message = message_of(NFT_MSG_NEWRULE);
    message.text(NFTA_RULE_TABLE, "t").text(NFTA_RULE_CHAIN, "c");
    message.nest(NFTA_RULE_EXPRESSIONS, [](MessageBuilder& rule) {
        put_expression(rule, "immediate",
                       verdict(NFT_JUMP, [](MessageBuilder& parts) { parts.text(NFTA_VERDICT_CHAIN, "c"); }));
    });
    const auto whole = message.bytes();
    for (std::size_t length = sizeof(nlmsghdr); length < whole.size(); ++length) {
        const std::vector<std::uint8_t> bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
        const Message cut{.header = reinterpret_cast<const nlmsghdr*>(bytes.data()),
                          .payload = Bytes(bytes).subspan(sizeof(nlmsghdr))};
        const auto attributes = nft_attributes<NFTA_RULE_USERDATA>(cut);
        INFO("of " << whole.size() << " bytes only " << length);
        CHECK((!attributes || !attributes->find(NFTA_RULE_EXPRESSIONS)));
    }
}

TEST_CASE("elements of another shape make a set less than whole", "[nft_messages]") {
    const auto data = [](const Fill& parts) {
        return [parts](MessageBuilder& element) {
            put_key(element);
            element.nest(NFTA_SET_ELEM_DATA, [&](MessageBuilder& all) { all.nest(NFTA_DATA_VERDICT, parts); });
        };
    };
    const auto jump = [](MessageBuilder& parts) {
        put_u32(parts, NFTA_VERDICT_CODE, static_cast<std::uint32_t>(NFT_JUMP));
    };
    using Added = std::pair<std::size_t, bool>;
    CHECK(added(data([&](MessageBuilder& parts) {
              jump(parts);
              parts.text(NFTA_VERDICT_CHAIN, "c");
          })) == Added{1, true});
    CHECK(added(data(jump)) == Added{0, false});
    CHECK(added(data([&](MessageBuilder& parts) {
              jump(parts);
              put_open_text(parts, NFTA_VERDICT_CHAIN, "c");
          })) == Added{0, false});
    CHECK(added(data([](MessageBuilder& parts) { parts.attribute(NFTA_VERDICT_CODE, std::uint8_t{0}); })) ==
          Added{0, false});
    CHECK(added([](MessageBuilder&) {}) == Added{0, false});
    CHECK(added(put_key) == Added{0, false});
    CHECK(added([&](MessageBuilder& element) {
              data([](MessageBuilder& parts) { put_u32(parts, NFTA_VERDICT_CODE, NF_DROP); })(element);
              element.attribute(NFTA_SET_ELEM_FLAGS, std::uint8_t{0});
          }) == Added{0, false});
}

TEST_CASE("chains, tables and sets of another shape are not understood", "[nft_messages]") {
    const auto chain = [](const Fill& fill) {
        auto message = message_of(NFT_MSG_NEWCHAIN);
        fill(message);
        return parse_nft_chain(Exact(std::move(message)).message());
    };
    const auto hook = [](auto number) {
        return [number](MessageBuilder& message) {
            message.text(NFTA_CHAIN_TABLE, "t").text(NFTA_CHAIN_NAME, "c").attribute(NFTA_CHAIN_HANDLE, be64toh(7));
            message.nest(NFTA_CHAIN_HOOK, [&](MessageBuilder& parts) {
                parts.attribute(NFTA_HOOK_HOOKNUM, number);
                put_u32(parts, NFTA_HOOK_PRIORITY, static_cast<std::uint32_t>(-100));
            });
        };
    };
    const auto base = chain(hook(htonl(NF_INET_PRE_ROUTING)));
    REQUIRE(base);
    CHECK(base->handle == 7);
    CHECK(base->chain.hook == "PREROUTING");
    CHECK(base->chain.priority == -100);
    CHECK(chain(hook(htonl(77)))->chain.hook == "INGRESS");
    CHECK_FALSE(chain(hook(std::uint8_t{0})));
    CHECK_FALSE(chain([](MessageBuilder&) {}));
    CHECK_FALSE(chain([](MessageBuilder& message) {
        message.text(NFTA_CHAIN_TABLE, "t").attribute(NFTA_CHAIN_HANDLE, std::uint64_t{0});
        put_open_text(message, NFTA_CHAIN_NAME, "c");
    }));
    auto table = message_of(NFT_MSG_NEWTABLE);
    put_open_text(table, NFTA_TABLE_NAME, "t");
    CHECK_FALSE(parse_nft_table(Exact(std::move(table)).message()));
    auto set = message_of(NFT_MSG_NEWSET);
    set.text(NFTA_SET_TABLE, "t").text(NFTA_SET_NAME, "s").attribute(NFTA_SET_KEY_TYPE, std::uint8_t{13});
    const auto parsed = parse_nft_set(Exact(std::move(set)).message());
    REQUIRE(parsed);
    CHECK_FALSE(parsed->set);
    const MessageBuilder headless(nfnl_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN));
    CHECK_FALSE(parse_nft_generation(Exact(headless).message()));
}
