// SPDX-License-Identifier: GPL-2.0-or-later
// One rule of nft's JSON, told to the same comparisons that decode the kernel's expressions.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <utility>

#include "state/json_read.hpp"
#include "state/nft_json.hpp"
#include "state/nft_json_operand.hpp"
#include "state/nft_json_set.hpp"
#include "state/nftables_compare.hpp"
#include "state/save_text.hpp"
#include "state/xt_decode.hpp"

namespace hptrace {
namespace {

using nlohmann::json;

nft_cmp_ops operation_of(std::string_view text) {
    constexpr std::array<std::pair<std::string_view, nft_cmp_ops>, 6> operations{{{"==", NFT_CMP_EQ},
                                                                                  {"!=", NFT_CMP_NEQ},
                                                                                  {"<", NFT_CMP_LT},
                                                                                  {">", NFT_CMP_GT},
                                                                                  {"<=", NFT_CMP_LTE},
                                                                                  {">=", NFT_CMP_GTE}}};
    const auto* const known = std::ranges::find(operations, text, [](const auto& entry) { return entry.first; });
    return known == operations.end() ? NFT_CMP_EQ : known->second;  // "in": one of some flags
}

std::optional<std::uint16_t> port_in(const json& value) {
    const auto number = as_number(value);
    return number && *number >= 0 && *number <= 65535 ? std::optional(static_cast<std::uint16_t>(*number))
                                                      : std::nullopt;
}

class Decoder {
public:
    Decoder(std::optional<Family> family, const NftSets* sets) : sets_(sets), family_(family) {}

    void statement(const json& statement);

    Rule finish() && {
        if (rule_.target.kind == TargetKind::none) {
            rule_.target = std::move(statement_);
        }
        return std::move(rule_);
    }

private:
    void unread(std::string what) { rule_.unread.push_back(std::move(what)); }

    void match(const json& value);
    void compare_with(const Operand& operand, nft_cmp_ops operation, const json& right);
    // What a packet must be so that it has the fields of this expression: nft leaves that out.
    void demand(const json& expression, int depth = 0);
    void demand_equal(std::uint32_t meta_key, std::uint8_t value);
    void demand_ethernet();

    void nat(TargetKind kind, std::string name, const json& value);
    void redirect(const json& value);
    void mangle(const json& value);
    bool map(const json& value);
    std::optional<MapLookup> lookup(const json& key, const json& data);
    void unread_map(const json& value);
    void xt(const json& value);
    bool verdict(std::string_view name, const json& value);
    bool other_statement(std::string_view name, const json& value);

    const NftSets* sets_;  // null: the table's are not read
    std::optional<Family> family_;
    Rule rule_;
    Target statement_;  // what a rule does if no verdict and no NAT is in it
};

void Decoder::demand_equal(std::uint32_t meta_key, std::uint8_t value) {
    const Operand operand{.kind = Operand::Kind::meta, .name = "meta", .key = meta_key};
    compare(operand, NFT_CMP_EQ, std::span(&value, 1), family_, rule_);
    if (rule_.family) {
        family_ = rule_.family;
    }
}

// Only interfaces of one type have such addresses; said once, as nft does.
void Decoder::demand_ethernet() {
    Rule rule;
    compare({.kind = Operand::Kind::meta, .name = "meta", .key = NFT_META_IIFTYPE}, NFT_CMP_EQ, {}, family_, rule);
    for (auto& condition : rule.conditions) {
        if (std::ranges::find(rule_.conditions, condition) == rule_.conditions.end()) {
            rule_.conditions.push_back(std::move(condition));
        }
    }
}

void Decoder::demand(const json& expression, int depth) {
    constexpr int deepest = 8;
    if (depth > deepest) {
        return;
    }
    if (const json* const payload = member(expression, "payload")) {
        const auto protocol = text_of(*payload, "protocol").value_or("");
        if ((protocol == "ip" || protocol == "ip6") && !family_) {
            demand_equal(NFT_META_NFPROTO, protocol == "ip" ? NFPROTO_IPV4 : NFPROTO_IPV6);
        } else if (const auto number = protocol_number(protocol); number && protocol != "ip" && protocol != "ip6") {
            demand_equal(NFT_META_L4PROTO, *number);
        } else if (protocol == "ether") {
            demand_ethernet();
        }
        return;
    }
    if (!expression.is_object() && !expression.is_array()) {
        return;
    }
    for (const auto& part : expression) {
        if (part.is_object() || part.is_array()) {
            demand(part, depth + 1);
        }
    }
}

void Decoder::match(const json& value) {
    const json* const left = member(value, "left");
    const json* const right = member(value, "right");
    if (left == nullptr || right == nullptr) {
        unread("match");
        return;
    }
    demand(*left);
    compare_with(json_operand(*left), operation_of(text_of(value, "op").value_or("")), *right);
    if (rule_.family) {
        family_ = rule_.family;
    }
}

void Decoder::compare_with(const Operand& operand, nft_cmp_ops operation, const json& right) {
    if (right.is_string() && right.get_ref<const std::string&>().starts_with('@')) {
        const auto set = right.get<std::string>().substr(1);
        rule_.sets.push_back({{set, {is_source(operand, family_)}}, operation == NFT_CMP_NEQ});
        return;
    }
    if (member(right, "set") != nullptr) {
        unread("anonymous set");
        return;
    }
    if (operand.kind == Operand::Kind::nothing) {
        unread("cmp");
        return;
    }
    const json* const range = member(right, "range");
    const bool two = range != nullptr && range->is_array() && range->size() == 2;
    const auto bytes_or_none = [&](const json& value) {
        return is_evaluated(operand) ? json_bytes(operand, value) : std::optional(std::vector<std::uint8_t>{});
    };
    if (two) {
        const auto first = bytes_or_none(range->front());
        const auto last = bytes_or_none(range->back());
        if (!first || !last) {
            unread("range");
        } else if (operation == NFT_CMP_NEQ) {
            compare_range(operand, true, *first, *last, rule_);
        } else {  // as nft writes it
            compare(operand, NFT_CMP_GTE, *first, family_, rule_);
            compare(operand, NFT_CMP_LTE, *last, family_, rule_);
        }
        return;
    }
    Operand compared = operand;
    const json* value = &right;
    if (const json* const prefix = member(right, "prefix")) {
        const auto length = number_of(*prefix, "len");
        value = member(*prefix, "addr");
        if (value == nullptr || !length || *length < 0 || *length > std::int64_t{operand.length} * 8) {
            unread("address comparison");
            return;
        }
        for (std::uint32_t byte = 0; byte < operand.length; ++byte) {
            const auto bits = std::clamp<std::int64_t>(*length - (std::int64_t{byte} * 8), 0, 8);
            compared.mask.push_back(static_cast<std::uint8_t>(0xff00U >> static_cast<unsigned>(bits)));
        }
    }
    const auto bytes = bytes_or_none(*value);
    if (!bytes) {
        unread("comparison with what is not understood");
        return;
    }
    compare(compared, operation, *bytes, family_, rule_);
}

void Decoder::nat(TargetKind kind, std::string name, const json& value) {
    rule_.target = {kind, std::move(name), {}, {}};
    auto family = family_;
    if (const auto own = text_of(value, "family")) {
        family = *own == "ip" ? Family::ipv4 : Family::ipv6;
    }
    if (!family) {
        unread(rule_.target.name + " of no family");
        return;
    }
    const json* const address = member(value, "addr");
    const json* const port = member(value, "port");
    // An address and a port that one map yields stand where else the address does.
    for (const json* const part : {address, port}) {
        if (part != nullptr && member(*part, "map") != nullptr && map(*member(*part, "map")) && part == address &&
            port == nullptr && rule_.maps.front().data != SetData::verdict) {
            return;
        }
    }
    // A single value, or {"range": [first, last]}.
    const auto ends = [](const json& part) -> std::pair<const json*, const json*> {
        const json* const range = member(part, "range");
        return range != nullptr && range->is_array() && range->size() == 2 ? std::pair(&range->front(), &range->back())
                                                                           : std::pair(&part, &part);
    };
    const auto address_in = [family](const json& part) -> std::optional<Address> {
        const auto parsed = part.is_string() ? parse_address(part.get<std::string>()) : std::nullopt;
        return parsed && parsed->family == *family ? parsed : std::nullopt;
    };
    const Address any{.family = *family, .bytes = {}};
    const auto first_ip = address == nullptr ? std::optional(any) : address_in(*ends(*address).first);
    const auto last_ip = address == nullptr ? std::optional(any) : address_in(*ends(*address).second);
    const auto first_port = port == nullptr ? std::optional<std::uint16_t>(0) : port_in(*ends(*port).first);
    const auto last_port = port == nullptr ? std::optional<std::uint16_t>(0) : port_in(*ends(*port).second);
    if (!first_ip || !last_ip || !first_port || !last_port) {
        unread(rule_.target.name + " to what is not constant");
        return;
    }
    rule_.target.to = {.ip = *first_ip, .port = *first_port};
    const Endpoint last{.ip = *last_ip, .port = *last_port};
    if (last != *rule_.target.to) {
        rule_.target.to_last = last;
    }
}

void Decoder::redirect(const json& value) {
    rule_.target = {TargetKind::redirect, "redirect", {}, {}};
    const json* port = member(value, "port");
    if (const json* const range = port == nullptr ? nullptr : member(*port, "range");
        range != nullptr && range->is_array() && !range->empty()) {
        port = &range->front();
    }
    const auto number = port == nullptr ? std::optional<std::uint16_t>(0) : port_in(*port);
    if (!number) {
        unread("redirect to what is not constant");
        return;
    }
    rule_.target.to = Endpoint{.ip = Address{.family = family_.value_or(Family::ipv4), .bytes = {}}, .port = *number};
}

void Decoder::mangle(const json& value) {
    const json* const key = member(value, "key");
    const auto [kind, what] = key == nullptr ? std::pair<std::string, const json*>() : only_item(*key);
    if (what != nullptr && kind == "meta") {
        const bool mark = text_of(*what, "key") == "mark";
        statement_ = {mark ? TargetKind::mark : TargetKind::other, "meta set", {}, {}};
    } else if (kind == "ct") {
        statement_ = {TargetKind::other, "ct set", {}, {}};
    } else {
        unread("payload set");
    }
    if (const json* const to = member(value, "value"); to != nullptr && member(*to, "map") != nullptr) {
        unread_map(*member(*to, "map"));
    }
}

// True: what the map yields is this rule's verdict or its new destination.
bool Decoder::map(const json& value) {
    const json* const key = member(value, "key");
    const json* const data = member(value, "data");
    auto found = key != nullptr && data != nullptr && rule_.maps.empty() ? lookup(*key, *data) : std::nullopt;
    if (!found) {
        unread_map(value);
        return false;
    }
    demand(*key);
    rule_.maps.push_back(*std::move(found));
    return true;
}

std::optional<MapLookup> Decoder::lookup(const json& key, const json& data) {
    if (sets_ == nullptr) {
        return std::nullopt;
    }
    std::vector<LookupField> fields;
    for (const Operand& operand : json_operands(key)) {
        fields.push_back(lookup_field(operand, family_));
    }
    if (data.is_string()) {
        const auto& name = data.get_ref<const std::string&>();
        const auto set = name.starts_with('@') ? sets_->find(name.substr(1)) : sets_->end();
        return set == sets_->end() ? std::nullopt : make_lookup(set->second, std::move(fields));
    }
    const json* const elements = member(data, "set");
    auto map = elements == nullptr ? std::nullopt : decode_nft_json_map(*elements, fields, family_);
    return map ? make_anonymous_lookup(*std::move(map), std::move(fields)) : std::nullopt;
}

void Decoder::unread_map(const json& value) {
    if (const json* const key = member(value, "key")) {
        demand(*key);
    }
    unread("map " + text_of(value, "data").value_or("@__map"));
}

// An xtables extension of iptables-nft, of which JSON shows the name only.
void Decoder::xt(const json& value) {
    const auto name = text_of(value, "name").value_or("xt");
    if (text_of(value, "type") == "target") {
        rule_.target = {xt_target_kind(name), name, {}, {}};
    }
    unread(name);
}

bool Decoder::verdict(std::string_view name, const json& value) {
    struct Verdict {
        std::string_view name;
        Target target;
    };
    const auto to = text_of(value, "target").value_or("");
    const std::array<Verdict, 8> verdicts{{{"accept", {TargetKind::accept, "ACCEPT", {}, {}}},
                                           {"drop", {TargetKind::drop, "DROP", {}, {}}},
                                           {"return", {TargetKind::return_, "RETURN", {}, {}}},
                                           {"jump", {TargetKind::jump, to, {}, {}}},
                                           {"goto", {TargetKind::go_to, to, {}, {}}},
                                           {"reject", {TargetKind::reject, "reject", {}, {}}},
                                           {"masquerade", {TargetKind::masquerade, "masquerade", {}, {}}},
                                           {"queue", {TargetKind::other, "queue", {}, {}}}}};
    const auto* const known = std::ranges::find(verdicts, name, &Verdict::name);
    if (known == verdicts.end()) {
        return false;
    }
    rule_.target = known->target;
    return true;
}

// Statements that neither end a rule nor rewrite anything: by the name of their expression in the kernel.
bool Decoder::other_statement(std::string_view name, const json& value) {
    const bool named_object = value.is_string();
    if (name == "continue" || name == "last" || (name == "counter" && !named_object)) {
        return true;
    }
    if ((name == "limit" || name == "quota") && !named_object) {
        rule_.conditions.emplace_back(name);
    } else if (name == "ct count") {
        rule_.conditions.emplace_back("connlimit");
    } else if (name == "set" || name == "map") {
        if (const json* const element = member(value, "elem")) {
            demand(*element);
        }
        rule_.conditions.emplace_back("dynset");
    } else if (name == "log" || name == "notrack" || name == "dup" || name == "tproxy") {
        statement_ = {TargetKind::other, std::string(name), {}, {}};
    } else if (name == "flow") {
        statement_ = {TargetKind::other, "flow_offload", {}, {}};
    } else if (named_object && (name == "counter" || name == "limit" || name == "quota" || name == "secmark" ||
                                name.starts_with("ct "))) {
        statement_ = {TargetKind::other, "objref", {}, {}};
    } else {
        return false;
    }
    return true;
}

void Decoder::statement(const json& statement) {
    const auto [name, value] = only_item(statement);
    if (value == nullptr) {
        unread("statement");
    } else if (name == "match") {
        match(*value);
    } else if (name == "vmap") {
        if (map(*value)) {
            rule_.target = {TargetKind::verdict_map, "vmap", {}, {}};
        }
    } else if (name == "dnat" || name == "snat") {
        nat(name == "dnat" ? TargetKind::dnat : TargetKind::snat, name, *value);
    } else if (name == "redirect") {
        redirect(*value);
    } else if (name == "mangle") {
        mangle(*value);
    } else if (name == "xt") {
        xt(*value);
    } else if (!verdict(name, *value) && !other_statement(name, *value)) {
        unread(name);
    }
}

}  // namespace

Rule decode_nft_json_rule(const json& rule, std::optional<Family> family, const NftSets* sets) {
    Decoder decoder(family, sets);
    if (const json* const statements = member(rule, "expr"); statements != nullptr && statements->is_array()) {
        for (const auto& statement : *statements) {
            decoder.statement(statement);
        }
    }
    Rule decoded = std::move(decoder).finish();
    if (const auto handle = number_of(rule, "handle")) {
        decoded.handle = static_cast<std::uint64_t>(*handle);
    }
    decoded.comment = text_of(rule, "comment").value_or("");
    return decoded;
}

}  // namespace hptrace
