// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/nftables_rule.hpp"

#include <fmt/format.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <utility>

#include "state/nftables_compare.hpp"
#include "state/nftables_expression.hpp"
#include "state/xt_decode.hpp"

namespace hptrace {
namespace {

using Data = std::span<const std::uint8_t>;

// What nft keeps with a rule (libnftnl's NFTNL_UDATA_RULE_COMMENT).
constexpr std::uint8_t rule_comment = 0;

class Decoder;
struct Handler {
    std::string_view name;
    void (Decoder::*handle)(NftExpression&);
    std::array<std::uint16_t, 4> needed{};  // attributes without which it means nothing; zero is none
};

class Decoder {
public:
    Decoder(std::optional<Family> family, const SetNameOf& set_name, const NftSets& sets)
        : set_name_(set_name), sets_(sets), family_(family) {}

    void expression(NftExpression& expression);
    void unread(std::string what) { rule_.unread.push_back(std::move(what)); }

    Rule finish() && {
        if (rule_.target.kind == TargetKind::none) {
            rule_.target = std::move(statement_);
        }
        return std::move(rule_);
    }

private:
    // What a later expression does to a rule's target only if no verdict and no NAT follows it.
    void statement(TargetKind kind, std::string name) { statement_ = {kind, std::move(name), {}, {}}; }

    void load(NftExpression& expression, std::uint16_t register_attribute, Operand operand) {
        registers_.store(expression.number(register_attribute), std::move(operand));
    }
    [[nodiscard]] const Operand& source(NftExpression& expression, std::uint16_t register_attribute) const {
        return registers_.at(expression.number(register_attribute));
    }

    void meta(NftExpression& expression);
    void payload(NftExpression& expression);
    void fib(NftExpression& expression);
    void ct(NftExpression& expression);
    void immediate(NftExpression& expression);
    void bitwise(NftExpression& expression);
    void cmp(NftExpression& expression);
    void range(NftExpression& expression);
    void lookup(NftExpression& expression);
    void map(NftExpression& expression, const std::string& name);
    void nat_to_map(NftExpression& expression);
    void nat(NftExpression& expression);
    void redir(NftExpression& expression);
    void match(NftExpression& expression);
    void target(NftExpression& expression);
    void masq(NftExpression& /*expression*/) { rule_.target = {TargetKind::masquerade, "masquerade", {}, {}}; }
    void reject(NftExpression& /*expression*/) { rule_.target = {TargetKind::reject, "reject", {}, {}}; }
    void nothing(NftExpression& /*expression*/) {}
    void condition(NftExpression& expression) { rule_.conditions.push_back(std::string(expression.name())); }
    void other(NftExpression& expression) { statement(TargetKind::other, std::string(expression.name())); }
    void terminal(NftExpression& expression) {
        rule_.target = {TargetKind::other, std::string(expression.name()), {}, {}};
    }
    // Expressions that load something not evaluated; all of them have their register first or second.
    template <std::uint16_t register_attribute>
    void opaque(NftExpression& expression) {
        load(expression, register_attribute, {Operand::Kind::opaque, std::string(expression.name())});
    }

    std::optional<std::uint16_t> constant_port(NftExpression& expression, std::uint16_t attribute);
    std::optional<Address> constant_address(NftExpression& expression, std::uint16_t attribute, Family family);

    static const std::array<Handler, 33> handlers;

    const SetNameOf& set_name_;
    const NftSets& sets_;
    std::optional<Family> family_;
    Registers registers_;
    Rule rule_;
    Target statement_;
};

// clang-format off
const std::array<Handler, 33> Decoder::handlers{{
    {"meta", &Decoder::meta, {NFTA_META_KEY}},
    {"payload", &Decoder::payload, {NFTA_PAYLOAD_BASE, NFTA_PAYLOAD_OFFSET, NFTA_PAYLOAD_LEN}},
    {"fib", &Decoder::fib, {NFTA_FIB_DREG, NFTA_FIB_RESULT, NFTA_FIB_FLAGS}},
    {"ct", &Decoder::ct, {NFTA_CT_KEY}},
    {"immediate", &Decoder::immediate, {NFTA_IMMEDIATE_DREG, NFTA_IMMEDIATE_DATA}},
    {"bitwise", &Decoder::bitwise, {NFTA_BITWISE_SREG, NFTA_BITWISE_DREG}},
    {"cmp", &Decoder::cmp, {NFTA_CMP_SREG, NFTA_CMP_OP, NFTA_CMP_DATA}},
    {"range", &Decoder::range, {NFTA_RANGE_SREG, NFTA_RANGE_OP, NFTA_RANGE_FROM_DATA, NFTA_RANGE_TO_DATA}},
    {"lookup", &Decoder::lookup, {NFTA_LOOKUP_SET, NFTA_LOOKUP_SREG}},
    {"nat", &Decoder::nat, {NFTA_NAT_TYPE, NFTA_NAT_FAMILY}},
    {"redir", &Decoder::redir, {}},
    {"match", &Decoder::match, {NFTA_MATCH_NAME, NFTA_MATCH_REV, NFTA_MATCH_INFO}},
    {"target", &Decoder::target, {NFTA_TARGET_NAME, NFTA_TARGET_REV, NFTA_TARGET_INFO}},
    {"masq", &Decoder::masq, {}}, {"reject", &Decoder::reject, {}},
    {"counter", &Decoder::nothing, {}}, {"last", &Decoder::nothing, {}},
    {"limit", &Decoder::condition, {}}, {"quota", &Decoder::condition, {}}, {"connlimit", &Decoder::condition, {}},
    {"dynset", &Decoder::condition, {}},
    {"log", &Decoder::other, {}}, {"notrack", &Decoder::other, {}}, {"dup", &Decoder::other, {}},
    {"objref", &Decoder::other, {}}, {"flow_offload", &Decoder::other, {}}, {"tproxy", &Decoder::other, {}},
    {"queue", &Decoder::terminal, {}},
    {"rt", &Decoder::opaque<NFTA_RT_DREG>, {NFTA_RT_DREG}},
    {"socket", &Decoder::opaque<NFTA_SOCKET_DREG>, {NFTA_SOCKET_DREG}},
    {"exthdr", &Decoder::opaque<NFTA_EXTHDR_DREG>, {}},  // one that writes has a source only
    {"numgen", &Decoder::opaque<NFTA_NG_DREG>, {NFTA_NG_DREG}},
    {"hash", &Decoder::opaque<NFTA_HASH_DREG>, {NFTA_HASH_DREG}},
}};
// clang-format on

void Decoder::expression(NftExpression& expression) {
    const std::string name = std::string(expression.name());
    const auto handler = std::ranges::find(handlers, name, &Handler::name);
    if (handler == handlers.end()) {
        unread(name);
        return;
    }
    const bool complete = std::ranges::all_of(
        handler->needed, [&](std::uint16_t attribute) { return attribute == 0 || expression.has(attribute); });
    if (!complete) {
        unread("malformed " + name);
        return;
    }
    (this->*handler->handle)(expression);
    if (!expression.well_formed()) {
        unread("malformed " + name);
    }
}

void Decoder::meta(NftExpression& expression) {
    const std::uint32_t key = expression.number(NFTA_META_KEY);
    if (expression.has(NFTA_META_SREG)) {
        statement(key == NFT_META_MARK ? TargetKind::mark : TargetKind::other, "meta set");
        return;
    }
    load(expression, NFTA_META_DREG, {.kind = Operand::Kind::meta, .name = "meta", .key = key});
}

void Decoder::payload(NftExpression& expression) {
    if (expression.has(NFTA_PAYLOAD_SREG)) {
        unread("payload set");
        return;
    }
    load(expression, NFTA_PAYLOAD_DREG,
         {.kind = Operand::Kind::payload,
          .name = "payload",
          .key = expression.number(NFTA_PAYLOAD_BASE),
          .offset = expression.number(NFTA_PAYLOAD_OFFSET),
          .length = expression.number(NFTA_PAYLOAD_LEN)});
}

void Decoder::fib(NftExpression& expression) {
    const bool type = expression.number(NFTA_FIB_RESULT) == NFT_FIB_RESULT_ADDRTYPE;
    load(expression, NFTA_FIB_DREG,
         {.kind = type ? Operand::Kind::fib_type : Operand::Kind::opaque,
          .name = "fib",
          .key = expression.number(NFTA_FIB_FLAGS)});
}

void Decoder::ct(NftExpression& expression) {
    if (expression.has(NFTA_CT_SREG)) {
        statement(TargetKind::other, "ct set");
        return;
    }
    load(expression, NFTA_CT_DREG, {Operand::Kind::opaque, "ct"});
}

void Decoder::immediate(NftExpression& expression) {
    const std::uint32_t to = expression.number(NFTA_IMMEDIATE_DREG);
    if (to != NFT_REG_VERDICT) {
        Operand operand{.kind = Operand::Kind::constant, .name = "immediate"};
        const Data data = expression.value(NFTA_IMMEDIATE_DATA);
        operand.data.assign(data.begin(), data.end());
        operand.length = static_cast<std::uint32_t>(data.size());
        registers_.store(to, std::move(operand));
        return;
    }
    auto [code, chain] = expression.verdict(NFTA_IMMEDIATE_DATA);
    switch (code) {
        case NF_ACCEPT:
            rule_.target = {TargetKind::accept, "ACCEPT", {}, {}};
            return;
        case NF_DROP:
            rule_.target = {TargetKind::drop, "DROP", {}, {}};
            return;
        case NFT_RETURN:
            rule_.target = {TargetKind::return_, "RETURN", {}, {}};
            return;
        case NFT_JUMP:
            rule_.target = {TargetKind::jump, std::move(chain), {}, {}};
            return;
        case NFT_GOTO:
            rule_.target = {TargetKind::go_to, std::move(chain), {}, {}};
            return;
        case NFT_CONTINUE:
            return;
        default:
            unread("verdict");
    }
}

void Decoder::bitwise(NftExpression& expression) {
    Operand operand = source(expression, NFTA_BITWISE_SREG);
    const Data mask = expression.value(NFTA_BITWISE_MASK);
    const Data exclusive_or = expression.value(NFTA_BITWISE_XOR);
    const bool plain_mask = !mask.empty() && expression.number(NFTA_BITWISE_OP) == NFT_BITWISE_BOOL &&
                            operand.mask.empty() &&
                            std::ranges::all_of(exclusive_or, [](std::uint8_t byte) { return byte == 0; });
    if (plain_mask) {
        operand.mask.assign(mask.begin(), mask.end());
    } else {
        operand = {Operand::Kind::opaque, "bitwise"};
    }
    load(expression, NFTA_BITWISE_DREG, std::move(operand));
}

void Decoder::cmp(NftExpression& expression) {
    const std::uint32_t operation = expression.number(NFTA_CMP_OP);
    if (operation > NFT_CMP_GTE) {
        unread("cmp");
        return;
    }
    compare(source(expression, NFTA_CMP_SREG), static_cast<nft_cmp_ops>(operation), expression.value(NFTA_CMP_DATA),
            family_, rule_);
    if (rule_.family) {
        family_ = rule_.family;
    }
}

void Decoder::range(NftExpression& expression) {
    compare_range(source(expression, NFTA_RANGE_SREG), expression.number(NFTA_RANGE_OP) == NFT_RANGE_NEQ,
                  expression.value(NFTA_RANGE_FROM_DATA), expression.value(NFTA_RANGE_TO_DATA), rule_);
}

void Decoder::lookup(NftExpression& expression) {
    const std::string set = expression.text(NFTA_LOOKUP_SET);
    if (expression.has(NFTA_LOOKUP_DREG)) {
        map(expression, set);
        return;
    }
    const bool inverted = (expression.number(NFTA_LOOKUP_FLAGS) & NFT_LOOKUP_F_INV) != 0;
    if (set.starts_with("__set")) {
        unread("anonymous set");
        return;
    }
    rule_.sets.push_back({{set, {is_source(source(expression, NFTA_LOOKUP_SREG), family_)}}, inverted});
}

void Decoder::map(NftExpression& expression, const std::string& name) {
    const auto found = sets_.find(name);
    std::optional<MapLookup> lookup;
    if (found != sets_.end() && rule_.maps.empty()) {
        const NftSet& set = found->second;
        std::vector<LookupField> fields;
        std::size_t behind = 0;
        for (const SetPart part : set.key) {
            fields.push_back(lookup_field(registers_.at(expression.number(NFTA_LOOKUP_SREG), behind), family_));
            behind += part_size(part);
        }
        lookup = name.starts_with(anonymous_map) ? make_anonymous_lookup(set, std::move(fields))
                                                 : make_lookup(set, std::move(fields));
    }
    const std::uint32_t to = expression.number(NFTA_LOOKUP_DREG);
    if (!lookup) {
        unread("map @" + name);
        // What the map yields is not known; a verdict map's is this rule's verdict.
        registers_.store(to, {Operand::Kind::opaque, "map"});
        return;
    }
    rule_.maps.push_back(*std::move(lookup));
    if (to == NFT_REG_VERDICT) {
        rule_.target = {TargetKind::verdict_map, "vmap", {}, {}};
        return;
    }
    registers_.store(to, {Operand::Kind::map_address, "map"});
    if (found->second.data == SetData::address_and_port) {
        registers_.store(to, {Operand::Kind::map_port, "map"},
                         Address{.family = found->second.family, .bytes = {}}.size());
    }
}

std::optional<std::uint16_t> Decoder::constant_port(NftExpression& expression, std::uint16_t attribute) {
    if (!expression.has(attribute)) {
        return 0;
    }
    const Operand& operand = source(expression, attribute);
    if (operand.kind != Operand::Kind::constant || operand.data.size() < 2) {
        return std::nullopt;
    }
    return static_cast<std::uint16_t>(operand.data[0] << 8U | operand.data[1]);
}

std::optional<Address> Decoder::constant_address(NftExpression& expression, std::uint16_t attribute, Family family) {
    Address address{.family = family, .bytes = {}};
    if (!expression.has(attribute)) {
        return address;
    }
    const Operand& operand = source(expression, attribute);
    if (operand.kind != Operand::Kind::constant || operand.data.size() < address.size()) {
        return std::nullopt;
    }
    return make_address(family, operand.data);
}

void Decoder::nat(NftExpression& expression) {
    const bool snat = expression.number(NFTA_NAT_TYPE) == NFT_NAT_SNAT;
    rule_.target = {snat ? TargetKind::snat : TargetKind::dnat, snat ? "snat" : "dnat", {}, {}};
    const auto family = family_from_af(static_cast<int>(expression.number(NFTA_NAT_FAMILY)));
    if (!family) {
        unread(rule_.target.name + " of no family");
        return;
    }
    if (source(expression, NFTA_NAT_REG_ADDR_MIN).kind == Operand::Kind::map_address) {
        nat_to_map(expression);
        return;
    }
    // An address register that is not set means "unchanged"; the maximum is then not set either.
    const auto attribute_or = [&expression](std::uint16_t attribute, std::uint16_t otherwise) {
        return expression.has(attribute) ? attribute : otherwise;
    };
    const auto first_ip = constant_address(expression, NFTA_NAT_REG_ADDR_MIN, *family);
    const auto last_ip =
        constant_address(expression, attribute_or(NFTA_NAT_REG_ADDR_MAX, NFTA_NAT_REG_ADDR_MIN), *family);
    const auto first_port = constant_port(expression, NFTA_NAT_REG_PROTO_MIN);
    const auto last_port = constant_port(expression, attribute_or(NFTA_NAT_REG_PROTO_MAX, NFTA_NAT_REG_PROTO_MIN));
    if (!first_ip || !last_ip || !first_port || !last_port) {
        unread(rule_.target.name + " to what is not constant");
        return;
    }
    rule_.target.to = {*first_ip, *first_port};
    if (*last_ip != *first_ip || *last_port != *first_port) {
        rule_.target.to_last = {*last_ip, *last_port};
    }
}

// The address is what a map yields: so must the port be, if the map has one, and only then.
void Decoder::nat_to_map(NftExpression& expression) {
    const auto single = [&](std::uint16_t first, std::uint16_t last) {
        return !expression.has(last) || expression.number(first) == expression.number(last);
    };
    const auto data = rule_.maps.front().data;
    const bool port_set = expression.has(NFTA_NAT_REG_PROTO_MIN);
    const bool fits = data == SetData::address_and_port
                          ? port_set && source(expression, NFTA_NAT_REG_PROTO_MIN).kind == Operand::Kind::map_port
                          : !port_set;
    if (!fits || !single(NFTA_NAT_REG_ADDR_MIN, NFTA_NAT_REG_ADDR_MAX) ||
        !single(NFTA_NAT_REG_PROTO_MIN, NFTA_NAT_REG_PROTO_MAX)) {
        unread(rule_.target.name + " to what is not constant");
    }
}

void Decoder::redir(NftExpression& expression) {
    rule_.target = {TargetKind::redirect, "redirect", {}, {}};
    const auto port = constant_port(expression, NFTA_REDIR_REG_PROTO_MIN);
    if (!port) {
        unread("redirect to what is not constant");
        return;
    }
    rule_.target.to = Endpoint{Address{family_.value_or(Family::ipv4), {}}, *port};
}

void Decoder::match(NftExpression& expression) {
    const Data info = expression.raw(NFTA_MATCH_INFO);
    decode_xt_match(expression.text(NFTA_MATCH_NAME), static_cast<std::uint8_t>(expression.number(NFTA_MATCH_REV)),
                    std::as_bytes(info), {family_.value_or(Family::ipv4), set_name_}, rule_);
}

void Decoder::target(NftExpression& expression) {
    const Data info = expression.raw(NFTA_TARGET_INFO);
    decode_xt_target(expression.text(NFTA_TARGET_NAME), static_cast<std::uint8_t>(expression.number(NFTA_TARGET_REV)),
                     std::as_bytes(info), {family_.value_or(Family::ipv4), set_name_}, rule_);
}

}  // namespace

// Type, length, text, one after the other (libnftnl's udata; not checked by the kernel).
std::string user_comment(Data data, std::uint8_t type) {
    while (data.size() >= 2 && data.size() >= 2U + data[1]) {
        const Data value = data.subspan(2, data[1]);
        if (data[0] == type) {
            return {value.begin(), std::ranges::find(value, std::uint8_t{0})};
        }
        data = data.subspan(2 + value.size());
    }
    return {};
}

Rule decode_nft_rule(const NftRuleAttributes& attributes, std::optional<Family> family, const SetNameOf& set_name,
                     const NftSets& sets) {
    Decoder decoder(family, set_name, sets);
    const bool whole = for_each_attribute(attributes.find(NFTA_RULE_EXPRESSIONS).value_or(Bytes{}),
                                          [&decoder](std::uint16_t /*NFTA_LIST_ELEM*/, Bytes element) {
                                              if (auto expression = NftExpression::parse(element)) {
                                                  decoder.expression(*expression);
                                              } else {
                                                  decoder.unread("malformed expression");
                                              }
                                          });
    if (!whole) {
        decoder.unread("malformed expressions");
    }
    Rule decoded = std::move(decoder).finish();
    decoded.handle = attributes.number<std::uint64_t>(NFTA_RULE_HANDLE);
    if (decoded.comment.empty()) {
        decoded.comment = user_comment(attributes.find(NFTA_RULE_USERDATA).value_or(Bytes{}), rule_comment);
    }
    return decoded;
}

}  // namespace hptrace
