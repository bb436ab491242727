// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/nft_json_operand.hpp"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <string_view>

#include "state/json_read.hpp"
#include "state/save_text.hpp"

namespace hptrace {
namespace {

using nlohmann::json;
using Bytes = std::vector<std::uint8_t>;

struct Numbered {
    std::string_view name;
    std::uint32_t number;
};

template <std::size_t size>
std::optional<std::uint32_t> number_in(const std::array<Numbered, size>& list, std::string_view name) {
    const auto* const found = std::ranges::find(list, name, &Numbered::name);
    return found == list.end() ? std::nullopt : std::optional(found->number);
}

constexpr std::array meta_keys{
    Numbered{"length", NFT_META_LEN},        Numbered{"protocol", NFT_META_PROTOCOL},
    Numbered{"priority", NFT_META_PRIORITY}, Numbered{"mark", NFT_META_MARK},
    Numbered{"iif", NFT_META_IIF},           Numbered{"oif", NFT_META_OIF},
    Numbered{"iifname", NFT_META_IIFNAME},   Numbered{"oifname", NFT_META_OIFNAME},
    Numbered{"iiftype", NFT_META_IIFTYPE},   Numbered{"oiftype", NFT_META_OIFTYPE},
    Numbered{"skuid", NFT_META_SKUID},       Numbered{"skgid", NFT_META_SKGID},
    Numbered{"nftrace", NFT_META_NFTRACE},   Numbered{"rtclassid", NFT_META_RTCLASSID},
    Numbered{"secmark", NFT_META_SECMARK},   Numbered{"nfproto", NFT_META_NFPROTO},
    Numbered{"l4proto", NFT_META_L4PROTO},   Numbered{"pkttype", NFT_META_PKTTYPE},
    Numbered{"cpu", NFT_META_CPU},           Numbered{"iifgroup", NFT_META_IIFGROUP},
    Numbered{"oifgroup", NFT_META_OIFGROUP}, Numbered{"cgroup", NFT_META_CGROUP},
};

constexpr std::array address_types{
    Numbered{"unspec", RTN_UNSPEC},       Numbered{"unicast", RTN_UNICAST},
    Numbered{"local", RTN_LOCAL},         Numbered{"broadcast", RTN_BROADCAST},
    Numbered{"anycast", RTN_ANYCAST},     Numbered{"multicast", RTN_MULTICAST},
    Numbered{"blackhole", RTN_BLACKHOLE}, Numbered{"unreachable", RTN_UNREACHABLE},
    Numbered{"prohibit", RTN_PROHIBIT},
};

constexpr std::array fib_flags{
    Numbered{"saddr", NFTA_FIB_F_SADDR}, Numbered{"daddr", NFTA_FIB_F_DADDR}, Numbered{"mark", NFTA_FIB_F_MARK},
    Numbered{"iif", NFTA_FIB_F_IIF},     Numbered{"oif", NFTA_FIB_F_OIF},
};

// Offsets of the fields that stand for addresses, ports and protocols (struct iphdr, struct ipv6hdr).
struct Field {
    std::string_view protocol;
    std::string_view name;
    std::uint32_t offset;
    std::uint32_t length;
};
constexpr std::array network_fields{
    Field{"ip", "saddr", 12, 4},  Field{"ip", "daddr", 16, 4},   Field{"ip", "protocol", 9, 1},
    Field{"ip6", "saddr", 8, 16}, Field{"ip6", "daddr", 24, 16}, Field{"ip6", "nexthdr", 6, 1},
};

Operand payload_operand(const json& payload) {
    const auto protocol = text_of(payload, "protocol").value_or("");
    const auto name = text_of(payload, "field").value_or("");
    Operand operand{.kind = Operand::Kind::payload, .name = "payload"};
    if (protocol == "ip" || protocol == "ip6") {
        operand.key = NFT_PAYLOAD_NETWORK_HEADER;
        const auto* const field = std::ranges::find_if(network_fields, [&](const Field& candidate) {
            return candidate.protocol == protocol && candidate.name == name;
        });
        if (field != network_fields.end()) {
            operand.offset = field->offset;
            operand.length = field->length;
        }  // else offset 0: some other field before the addresses
    } else if (protocol == "ether" || protocol == "vlan" || protocol == "arp") {
        operand.key = NFT_PAYLOAD_LL_HEADER;
    } else if (name == "sport" || name == "dport") {
        operand.key = NFT_PAYLOAD_TRANSPORT_HEADER;
        operand.offset = name == "sport" ? 0 : 2;
        operand.length = 2;
    } else if (protocol == "tcp" || protocol == "udp" || protocol == "udplite" || protocol == "sctp") {
        operand.key = NFT_PAYLOAD_TRANSPORT_HEADER;
        operand.offset = 4;  // behind the ports
    } else {
        operand.key = NFT_PAYLOAD_TRANSPORT_HEADER;  // of no known length: not understood
    }
    return operand;
}

Operand operand_of(const json& expression, int depth) {
    const auto [kind, value] = only_item(expression);
    constexpr int deepest = 8;
    if (value == nullptr || depth > deepest) {
        return {};
    }
    if (kind == "payload") {
        return payload_operand(*value);
    }
    if (kind == "meta") {
        const auto key = text_of(*value, "key").value_or("");
        const auto number = number_in(meta_keys, key);
        return number ? Operand{.kind = Operand::Kind::meta, .name = "meta", .key = *number}
                      : Operand{.kind = Operand::Kind::opaque, .name = "meta " + key};
    }
    if (kind == "fib") {
        Operand operand{.kind = Operand::Kind::fib_type, .name = "fib"};
        const json* const flags = member(*value, "flags");
        for (const auto& flag : flags == nullptr ? json::array() : flags->is_array() ? *flags : json::array({*flags})) {
            operand.key |= number_in(fib_flags, flag.is_string() ? flag.get<std::string>() : "").value_or(0);
        }
        if (text_of(*value, "result") != "type") {
            operand.kind = Operand::Kind::opaque;
        }
        return operand;
    }
    if (kind == "concat" && value->is_array() && !value->empty()) {
        return operand_of(value->front(), depth + 1);
    }
    if (kind == "&" && value->is_array() && value->size() == 2) {
        Operand operand = operand_of(value->front(), depth + 1);
        if (operand.kind == Operand::Kind::payload) {  // an address or port of which only some bits count
            const Bytes no_prefix{1};
            operand.mask = json_bytes(operand, value->back()).value_or(no_prefix);
        }
        return operand;
    }
    constexpr std::array<std::string_view, 9> loaded{"ct",      "rt",     "socket",     "numgen",   "jhash",
                                                     "symhash", "exthdr", "tcp option", "ip option"};
    if (std::ranges::find(loaded, kind) == loaded.end()) {
        return {};
    }
    const bool hash = kind == "jhash" || kind == "symhash";
    const bool header = kind == "tcp option" || kind == "ip option";
    return {.kind = Operand::Kind::opaque, .name = hash ? "hash" : header ? "exthdr" : kind};
}

}  // namespace

Operand json_operand(const json& expression) {
    return operand_of(expression, 0);
}

std::vector<Operand> json_operands(const json& expression) {
    std::vector<Operand> operands;
    const json* const parts = member(expression, "concat");
    if (parts == nullptr || !parts->is_array()) {
        operands.push_back(json_operand(expression));
        return operands;
    }
    for (const auto& part : *parts) {
        operands.push_back(json_operand(part));
    }
    return operands;
}

bool is_evaluated(const Operand& operand) {
    return operand.kind == Operand::Kind::fib_type || (operand.kind == Operand::Kind::payload && operand.length != 0) ||
           (operand.kind == Operand::Kind::meta &&
            (operand.key == NFT_META_NFPROTO || operand.key == NFT_META_L4PROTO || operand.key == NFT_META_IIFNAME ||
             operand.key == NFT_META_OIFNAME));
}

std::optional<std::vector<std::uint8_t>> json_bytes(const Operand& operand, const json& value) {
    const auto number = as_number(value);
    const std::string text = value.is_string() ? value.get<std::string>() : std::string();
    if (operand.kind == Operand::Kind::fib_type) {
        const auto type = number_in(address_types, text);
        if (!type) {
            return std::nullopt;
        }
        Bytes bytes(sizeof(std::uint32_t));
        std::memcpy(bytes.data(), &*type, bytes.size());
        return bytes;
    }
    if (operand.kind == Operand::Kind::meta) {
        if (operand.key == NFT_META_NFPROTO) {
            return text == "ipv4"   ? std::optional(Bytes{NFPROTO_IPV4})
                   : text == "ipv6" ? std::optional(Bytes{NFPROTO_IPV6})
                                    : std::nullopt;
        }
        if (operand.key == NFT_META_IIFNAME || operand.key == NFT_META_OIFNAME) {
            Bytes bytes(text.begin(), text.end());
            if (text.ends_with('*')) {  // only the beginning is compared
                bytes.pop_back();
            } else {
                bytes.push_back(0);
            }
            return text.empty() ? std::nullopt : std::optional(bytes);
        }
    }
    const bool protocol =
        (operand.kind == Operand::Kind::meta && operand.key == NFT_META_L4PROTO) || operand.length == 1;
    if (protocol) {
        const auto known = number && *number >= 0 && *number <= 255 ? std::optional(static_cast<std::uint8_t>(*number))
                                                                    : protocol_number(text);
        return known ? std::optional(Bytes{*known}) : std::nullopt;
    }
    if (operand.length == 2) {
        if (!number || *number < 0 || *number > 65535) {
            return std::nullopt;
        }
        return Bytes{static_cast<std::uint8_t>(*number >> 8), static_cast<std::uint8_t>(*number & 0xff)};
    }
    const auto address = parse_address(text);
    if (!address || address->size() != operand.length) {
        return std::nullopt;
    }
    return Bytes(address->bytes.begin(), address->bytes.begin() + static_cast<std::ptrdiff_t>(address->size()));
}

std::pair<std::string, const json*> only_item(const json& object) {
    if (!object.is_object() || object.size() != 1) {
        return {"", nullptr};
    }
    return {object.begin().key(), &*object.begin()};
}

}  // namespace hptrace
