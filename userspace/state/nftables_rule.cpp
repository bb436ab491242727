// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/nftables_rule.hpp"

#include <fmt/format.h>
#include <libnftnl/expr.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

#include "state/nftables_compare.hpp"
#include "state/xt_decode.hpp"

namespace hptrace {
namespace {

using Data = std::span<const std::uint8_t>;

Data data_of(const nftnl_expr& expression, std::uint16_t attribute) {
    std::uint32_t size = 0;
    const void* data = nftnl_expr_get(&expression, attribute, &size);
    return data == nullptr ? Data{} : Data(static_cast<const std::uint8_t*>(data), size);
}

std::uint32_t number(const nftnl_expr& expression, std::uint16_t attribute) {
    return nftnl_expr_is_set(&expression, attribute) ? nftnl_expr_get_u32(&expression, attribute) : 0;
}

std::string text(const nftnl_expr& expression, std::uint16_t attribute) {
    const char* value = nftnl_expr_get_str(&expression, attribute);
    return value == nullptr ? std::string() : std::string(value);
}

class Decoder;
struct Handler {
    std::string_view name;
    void (Decoder::*handle)(const nftnl_expr&);
};

class Decoder {
public:
    Decoder(std::optional<Family> family, const SetNameOf& set_name, const NftSets& sets)
        : set_name_(set_name), sets_(sets), family_(family) {}

    void expression(const nftnl_expr& expression);

    Rule finish() && {
        if (rule_.target.kind == TargetKind::none) {
            rule_.target = std::move(statement_);
        }
        return std::move(rule_);
    }

private:
    // What a later expression does to a rule's target only if no verdict and no NAT follows it.
    void statement(TargetKind kind, std::string name) { statement_ = {kind, std::move(name), {}, {}}; }
    void unread(std::string what) { rule_.unread.push_back(std::move(what)); }

    void load(const nftnl_expr& expression, std::uint16_t register_attribute, Operand operand) {
        registers_.store(number(expression, register_attribute), std::move(operand));
    }
    [[nodiscard]] const Operand& source(const nftnl_expr& expression, std::uint16_t register_attribute) const {
        return registers_.at(number(expression, register_attribute));
    }

    void meta(const nftnl_expr& expression);
    void payload(const nftnl_expr& expression);
    void fib(const nftnl_expr& expression);
    void ct(const nftnl_expr& expression);
    void immediate(const nftnl_expr& expression);
    void bitwise(const nftnl_expr& expression);
    void cmp(const nftnl_expr& expression);
    void range(const nftnl_expr& expression);
    void lookup(const nftnl_expr& expression);
    void map(const nftnl_expr& expression, const std::string& name);
    void nat_to_map(const nftnl_expr& expression);
    void nat(const nftnl_expr& expression);
    void redir(const nftnl_expr& expression);
    void match(const nftnl_expr& expression);
    void target(const nftnl_expr& expression);
    void masq(const nftnl_expr& /*expression*/) { rule_.target = {TargetKind::masquerade, "masquerade", {}, {}}; }
    void reject(const nftnl_expr& /*expression*/) { rule_.target = {TargetKind::reject, "reject", {}, {}}; }
    void nothing(const nftnl_expr& /*expression*/) {}
    void condition(const nftnl_expr& expression) { rule_.conditions.push_back(text(expression, NFTNL_EXPR_NAME)); }
    void other(const nftnl_expr& expression) { statement(TargetKind::other, text(expression, NFTNL_EXPR_NAME)); }
    void terminal(const nftnl_expr& expression) {
        rule_.target = {TargetKind::other, text(expression, NFTNL_EXPR_NAME), {}, {}};
    }
    // Expressions that load something not evaluated; all of them have their register first or second.
    template <std::uint16_t register_attribute>
    void opaque(const nftnl_expr& expression) {
        load(expression, register_attribute, {Operand::Kind::opaque, text(expression, NFTNL_EXPR_NAME)});
    }

    std::optional<std::uint16_t> constant_port(const nftnl_expr& expression, std::uint16_t attribute);
    std::optional<Address> constant_address(const nftnl_expr& expression, std::uint16_t attribute, Family family);

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
    {"meta", &Decoder::meta}, {"payload", &Decoder::payload}, {"fib", &Decoder::fib}, {"ct", &Decoder::ct},
    {"immediate", &Decoder::immediate}, {"bitwise", &Decoder::bitwise}, {"cmp", &Decoder::cmp},
    {"range", &Decoder::range}, {"lookup", &Decoder::lookup}, {"nat", &Decoder::nat}, {"redir", &Decoder::redir},
    {"match", &Decoder::match}, {"target", &Decoder::target}, {"masq", &Decoder::masq}, {"reject", &Decoder::reject},
    {"counter", &Decoder::nothing}, {"last", &Decoder::nothing},
    {"limit", &Decoder::condition}, {"quota", &Decoder::condition}, {"connlimit", &Decoder::condition},
    {"dynset", &Decoder::condition},
    {"log", &Decoder::other}, {"notrack", &Decoder::other}, {"dup", &Decoder::other}, {"objref", &Decoder::other},
    {"flow_offload", &Decoder::other}, {"tproxy", &Decoder::other},
    {"queue", &Decoder::terminal},
    {"rt", &Decoder::opaque<NFTNL_EXPR_RT_DREG>}, {"socket", &Decoder::opaque<NFTNL_EXPR_SOCKET_DREG>},
    {"exthdr", &Decoder::opaque<NFTNL_EXPR_EXTHDR_DREG>}, {"numgen", &Decoder::opaque<NFTNL_EXPR_NG_DREG>},
    {"hash", &Decoder::opaque<NFTNL_EXPR_HASH_DREG>},
}};
// clang-format on

void Decoder::expression(const nftnl_expr& expression) {
    const std::string name = text(expression, NFTNL_EXPR_NAME);
    const auto handler = std::ranges::find(handlers, name, &Handler::name);
    if (handler == handlers.end()) {
        unread(name);
        return;
    }
    (this->*handler->handle)(expression);
}

void Decoder::meta(const nftnl_expr& expression) {
    const std::uint32_t key = number(expression, NFTNL_EXPR_META_KEY);
    if (nftnl_expr_is_set(&expression, NFTNL_EXPR_META_SREG)) {
        statement(key == NFT_META_MARK ? TargetKind::mark : TargetKind::other, "meta set");
        return;
    }
    load(expression, NFTNL_EXPR_META_DREG, {.kind = Operand::Kind::meta, .name = "meta", .key = key});
}

void Decoder::payload(const nftnl_expr& expression) {
    if (nftnl_expr_is_set(&expression, NFTNL_EXPR_PAYLOAD_SREG)) {
        unread("payload set");
        return;
    }
    load(expression, NFTNL_EXPR_PAYLOAD_DREG,
         {.kind = Operand::Kind::payload,
          .name = "payload",
          .key = number(expression, NFTNL_EXPR_PAYLOAD_BASE),
          .offset = number(expression, NFTNL_EXPR_PAYLOAD_OFFSET),
          .length = number(expression, NFTNL_EXPR_PAYLOAD_LEN)});
}

void Decoder::fib(const nftnl_expr& expression) {
    const bool type = number(expression, NFTNL_EXPR_FIB_RESULT) == NFT_FIB_RESULT_ADDRTYPE;
    load(expression, NFTNL_EXPR_FIB_DREG,
         {.kind = type ? Operand::Kind::fib_type : Operand::Kind::opaque,
          .name = "fib",
          .key = number(expression, NFTNL_EXPR_FIB_FLAGS)});
}

void Decoder::ct(const nftnl_expr& expression) {
    if (nftnl_expr_is_set(&expression, NFTNL_EXPR_CT_SREG)) {
        statement(TargetKind::other, "ct set");
        return;
    }
    load(expression, NFTNL_EXPR_CT_DREG, {Operand::Kind::opaque, "ct"});
}

void Decoder::immediate(const nftnl_expr& expression) {
    const std::uint32_t to = number(expression, NFTNL_EXPR_IMM_DREG);
    if (to != NFT_REG_VERDICT) {
        Operand operand{.kind = Operand::Kind::constant, .name = "immediate"};
        const Data data = data_of(expression, NFTNL_EXPR_IMM_DATA);
        operand.data.assign(data.begin(), data.end());
        operand.length = static_cast<std::uint32_t>(data.size());
        registers_.store(to, std::move(operand));
        return;
    }
    const std::string chain = text(expression, NFTNL_EXPR_IMM_CHAIN);
    switch (static_cast<int>(number(expression, NFTNL_EXPR_IMM_VERDICT))) {
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
            rule_.target = {TargetKind::jump, chain, {}, {}};
            return;
        case NFT_GOTO:
            rule_.target = {TargetKind::go_to, chain, {}, {}};
            return;
        case NFT_CONTINUE:
            return;
        default:
            unread("verdict");
    }
}

void Decoder::bitwise(const nftnl_expr& expression) {
    Operand operand = source(expression, NFTNL_EXPR_BITWISE_SREG);
    const Data mask = data_of(expression, NFTNL_EXPR_BITWISE_MASK);
    const Data exclusive_or = data_of(expression, NFTNL_EXPR_BITWISE_XOR);
    const bool plain_mask = number(expression, NFTNL_EXPR_BITWISE_OP) == NFT_BITWISE_BOOL && operand.mask.empty() &&
                            std::ranges::all_of(exclusive_or, [](std::uint8_t byte) { return byte == 0; });
    if (plain_mask) {
        operand.mask.assign(mask.begin(), mask.end());
    } else {
        operand = {Operand::Kind::opaque, "bitwise"};
    }
    load(expression, NFTNL_EXPR_BITWISE_DREG, std::move(operand));
}

void Decoder::cmp(const nftnl_expr& expression) {
    const auto operation = static_cast<nft_cmp_ops>(number(expression, NFTNL_EXPR_CMP_OP));
    compare(source(expression, NFTNL_EXPR_CMP_SREG), operation, data_of(expression, NFTNL_EXPR_CMP_DATA), family_,
            rule_);
    if (rule_.family) {
        family_ = rule_.family;
    }
}

void Decoder::range(const nftnl_expr& expression) {
    compare_range(source(expression, NFTNL_EXPR_RANGE_SREG), number(expression, NFTNL_EXPR_RANGE_OP) == NFT_RANGE_NEQ,
                  data_of(expression, NFTNL_EXPR_RANGE_FROM_DATA), data_of(expression, NFTNL_EXPR_RANGE_TO_DATA),
                  rule_);
}

void Decoder::lookup(const nftnl_expr& expression) {
    const std::string set = text(expression, NFTNL_EXPR_LOOKUP_SET);
    if (nftnl_expr_is_set(&expression, NFTNL_EXPR_LOOKUP_DREG)) {
        map(expression, set);
        return;
    }
    const bool inverted = (number(expression, NFTNL_EXPR_LOOKUP_FLAGS) & NFT_LOOKUP_F_INV) != 0;
    if (set.starts_with("__set")) {
        unread("anonymous set");
        return;
    }
    rule_.sets.push_back({{set, {is_source(source(expression, NFTNL_EXPR_LOOKUP_SREG), family_)}}, inverted});
}

void Decoder::map(const nftnl_expr& expression, const std::string& name) {
    const auto found = sets_.find(name);
    std::optional<MapLookup> lookup;
    if (found != sets_.end() && rule_.maps.empty()) {
        const NftSet& set = found->second;
        std::vector<LookupField> fields;
        std::size_t behind = 0;
        for (const SetPart part : set.key) {
            fields.push_back(lookup_field(registers_.at(number(expression, NFTNL_EXPR_LOOKUP_SREG), behind), family_));
            behind += part_size(part);
        }
        lookup = name.starts_with(anonymous_map) ? make_anonymous_lookup(set, std::move(fields))
                                                 : make_lookup(set, std::move(fields));
    }
    const std::uint32_t to = number(expression, NFTNL_EXPR_LOOKUP_DREG);
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

std::optional<std::uint16_t> Decoder::constant_port(const nftnl_expr& expression, std::uint16_t attribute) {
    if (!nftnl_expr_is_set(&expression, attribute)) {
        return 0;
    }
    const Operand& operand = source(expression, attribute);
    if (operand.kind != Operand::Kind::constant || operand.data.size() < 2) {
        return std::nullopt;
    }
    return static_cast<std::uint16_t>(operand.data[0] << 8U | operand.data[1]);
}

std::optional<Address> Decoder::constant_address(const nftnl_expr& expression, std::uint16_t attribute, Family family) {
    Address address{.family = family, .bytes = {}};
    if (!nftnl_expr_is_set(&expression, attribute)) {
        return address;
    }
    const Operand& operand = source(expression, attribute);
    if (operand.kind != Operand::Kind::constant || operand.data.size() < address.size()) {
        return std::nullopt;
    }
    return make_address(family, operand.data);
}

void Decoder::nat(const nftnl_expr& expression) {
    const bool snat = number(expression, NFTNL_EXPR_NAT_TYPE) == NFT_NAT_SNAT;
    rule_.target = {snat ? TargetKind::snat : TargetKind::dnat, snat ? "snat" : "dnat", {}, {}};
    const auto family = family_from_af(static_cast<int>(number(expression, NFTNL_EXPR_NAT_FAMILY)));
    if (!family) {
        unread(rule_.target.name + " of no family");
        return;
    }
    if (source(expression, NFTNL_EXPR_NAT_REG_ADDR_MIN).kind == Operand::Kind::map_address) {
        nat_to_map(expression);
        return;
    }
    // An address register that is not set means "unchanged"; the maximum is then not set either.
    const auto attribute_or = [&expression](std::uint16_t attribute, std::uint16_t otherwise) {
        return nftnl_expr_is_set(&expression, attribute) ? attribute : otherwise;
    };
    const auto first_ip = constant_address(expression, NFTNL_EXPR_NAT_REG_ADDR_MIN, *family);
    const auto last_ip =
        constant_address(expression, attribute_or(NFTNL_EXPR_NAT_REG_ADDR_MAX, NFTNL_EXPR_NAT_REG_ADDR_MIN), *family);
    const auto first_port = constant_port(expression, NFTNL_EXPR_NAT_REG_PROTO_MIN);
    const auto last_port =
        constant_port(expression, attribute_or(NFTNL_EXPR_NAT_REG_PROTO_MAX, NFTNL_EXPR_NAT_REG_PROTO_MIN));
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
void Decoder::nat_to_map(const nftnl_expr& expression) {
    const auto single = [&](std::uint16_t first, std::uint16_t last) {
        return !nftnl_expr_is_set(&expression, last) || number(expression, first) == number(expression, last);
    };
    const auto data = rule_.maps.front().data;
    const bool port_set = nftnl_expr_is_set(&expression, NFTNL_EXPR_NAT_REG_PROTO_MIN);
    const bool fits = data == SetData::address_and_port
                          ? port_set && source(expression, NFTNL_EXPR_NAT_REG_PROTO_MIN).kind == Operand::Kind::map_port
                          : !port_set;
    if (!fits || !single(NFTNL_EXPR_NAT_REG_ADDR_MIN, NFTNL_EXPR_NAT_REG_ADDR_MAX) ||
        !single(NFTNL_EXPR_NAT_REG_PROTO_MIN, NFTNL_EXPR_NAT_REG_PROTO_MAX)) {
        unread(rule_.target.name + " to what is not constant");
    }
}

void Decoder::redir(const nftnl_expr& expression) {
    rule_.target = {TargetKind::redirect, "redirect", {}, {}};
    const auto port = constant_port(expression, NFTNL_EXPR_REDIR_REG_PROTO_MIN);
    if (!port) {
        unread("redirect to what is not constant");
        return;
    }
    rule_.target.to = Endpoint{Address{family_.value_or(Family::ipv4), {}}, *port};
}

void Decoder::match(const nftnl_expr& expression) {
    const Data info = data_of(expression, NFTNL_EXPR_MT_INFO);
    decode_xt_match(text(expression, NFTNL_EXPR_MT_NAME),
                    static_cast<std::uint8_t>(number(expression, NFTNL_EXPR_MT_REV)), std::as_bytes(info),
                    {family_.value_or(Family::ipv4), set_name_}, rule_);
}

void Decoder::target(const nftnl_expr& expression) {
    const Data info = data_of(expression, NFTNL_EXPR_TG_INFO);
    decode_xt_target(text(expression, NFTNL_EXPR_TG_NAME),
                     static_cast<std::uint8_t>(number(expression, NFTNL_EXPR_TG_REV)), std::as_bytes(info),
                     {family_.value_or(Family::ipv4), set_name_}, rule_);
}

std::string comment_of(const nftnl_rule& rule) {
    std::uint32_t size = 0;
    const void* raw = nftnl_rule_get_data(&rule, NFTNL_RULE_USERDATA, &size);
    return user_comment(raw == nullptr ? Data{} : Data(static_cast<const std::uint8_t*>(raw), size),
                        NFTNL_UDATA_RULE_COMMENT);
}

struct DestroyIterator {
    void operator()(nftnl_expr_iter* iterator) const { nftnl_expr_iter_destroy(iterator); }
};

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

Rule decode_nft_rule(const nftnl_rule& rule, std::optional<Family> family, const SetNameOf& set_name,
                     const NftSets& sets) {
    Decoder decoder(family, set_name, sets);
    const std::unique_ptr<nftnl_expr_iter, DestroyIterator> expressions(nftnl_expr_iter_create(&rule));
    while (const nftnl_expr* expression = expressions ? nftnl_expr_iter_next(expressions.get()) : nullptr) {
        decoder.expression(*expression);
    }
    Rule decoded = std::move(decoder).finish();
    decoded.handle = nftnl_rule_get_u64(&rule, NFTNL_RULE_HANDLE);
    if (decoded.comment.empty()) {
        decoded.comment = comment_of(rule);
    }
    return decoded;
}

}  // namespace hptrace
