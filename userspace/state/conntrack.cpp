// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/conntrack.hpp"

#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include <algorithm>
#include <cctype>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "base/number.hpp"

namespace hptrace {

namespace {

// One direction of an entry (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY).
struct Tuple {
    std::uint8_t protocol = 0;
    Address source;
    Address destination;
    std::optional<std::uint16_t> source_port;  // protocols without ports have none
    std::optional<std::uint16_t> destination_port;
};

// ctnetlink_dump_tuples(). Nothing: it is not as the kernel writes it. Parsed here, for libnetfilter_conntrack ends the
// program where an attribute has another size than it knows.
std::optional<Tuple> parse_tuple(Bytes data) {
    const auto parts = AttributeTable<CTA_TUPLE_PROTO>::parse(data);
    const auto ip_part = parts ? parts->find(CTA_TUPLE_IP) : std::nullopt;
    const auto protocol_part = parts ? parts->find(CTA_TUPLE_PROTO) : std::nullopt;
    const auto ip = ip_part ? AttributeTable<CTA_IP_V6_DST>::parse(*ip_part) : std::nullopt;
    const auto protocol = protocol_part ? AttributeTable<CTA_PROTO_DST_PORT>::parse(*protocol_part) : std::nullopt;
    const auto number = protocol ? protocol->number<std::uint8_t>(CTA_PROTO_NUM) : std::nullopt;
    if (!ip || !number) {
        return std::nullopt;
    }
    const bool is_ipv4 = ip->find(CTA_IP_V4_SRC).has_value();
    const auto source = ip->find(is_ipv4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC);
    const auto destination = ip->find(is_ipv4 ? CTA_IP_V4_DST : CTA_IP_V6_DST);
    const Family family = is_ipv4 ? Family::ipv4 : Family::ipv6;
    const auto size = Address{.family = family}.size();
    if (!source || !destination || source->size() != size || destination->size() != size) {
        return std::nullopt;
    }
    return Tuple{.protocol = *number,
                 .source = make_address(family, *source),
                 .destination = make_address(family, *destination),
                 .source_port = protocol->number<std::uint16_t>(CTA_PROTO_SRC_PORT),
                 .destination_port = protocol->number<std::uint16_t>(CTA_PROTO_DST_PORT)};
}

// The value of the next word "key=value" in `words`; empty at the end.
std::string next_value(std::istream& words, std::string_view key) {
    for (std::string word; words >> word;) {
        if (word.starts_with(key) && word.size() > key.size() && word[key.size()] == '=') {
            return word.substr(key.size() + 1);
        }
    }
    return {};
}

// "src=… dst=… sport=… dport=…"
std::optional<std::pair<Endpoint, Endpoint>> parse_tuple(std::istream& words) {
    const auto source = parse_address(next_value(words, "src"));
    const auto destination = parse_address(next_value(words, "dst"));
    const auto source_port = parse_number<std::uint16_t>(next_value(words, "sport"));
    const auto destination_port = parse_number<std::uint16_t>(next_value(words, "dport"));
    if (!source || !destination || !source_port || !destination_port) {
        return std::nullopt;
    }
    return std::pair{Endpoint{.ip = *source, .port = *source_port},
                     Endpoint{.ip = *destination, .port = *destination_port}};
}

// The word before the tuples that names a state: "ipv4     2 tcp      6 119 TIME_WAIT src=…". Of an offloaded
// connection there is no timeout, so it is found by what it says and not by its place.
std::optional<TcpState> tcp_state_in(const std::string& line) {
    std::istringstream words(line);
    for (std::string word; words >> word && !word.contains('=');) {
        std::ranges::transform(word, word.begin(),
                               [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
        if (const auto found = std::ranges::find(tcp_state_names, word); found != tcp_state_names.end()) {
            return static_cast<TcpState>(found - tcp_state_names.begin());
        }
    }
    return std::nullopt;
}

// CTA_PROTOINFO_TCP_STATE; nothing: not told, or one that this program does not know.
std::optional<TcpState> tcp_state_of(Bytes protocol_info) {
    const auto protocol = AttributeTable<CTA_PROTOINFO_TCP>::parse(protocol_info);
    const auto tcp = protocol ? protocol->find(CTA_PROTOINFO_TCP) : std::nullopt;
    const auto parts = tcp ? AttributeTable<CTA_PROTOINFO_TCP_STATE>::parse(*tcp) : std::nullopt;
    const auto state = parts ? parts->number<std::uint8_t>(CTA_PROTOINFO_TCP_STATE) : std::nullopt;
    return state && *state < tcp_state_names.size() ? std::optional(static_cast<TcpState>(*state)) : std::nullopt;
}

// CTA_TIMESTAMP_START; nothing: not told.
std::optional<std::int64_t> began_ns_of(Bytes timestamp) {
    const auto parts = AttributeTable<CTA_TIMESTAMP_START>::parse(timestamp);
    const auto began = parts ? parts->number<std::uint64_t>(CTA_TIMESTAMP_START) : std::nullopt;
    return began.transform([](std::uint64_t time) { return static_cast<std::int64_t>(time); });
}

// "ipv4     2 tcp      6 431999 ESTABLISHED src=… …": nothing if the protocol is none of a Service.
Result<std::optional<ConntrackEntry>> parse_conntrack_line(const std::string& line) {
    std::istringstream words(line);
    std::string family;
    std::string family_number;
    std::string protocol_name;
    unsigned protocol_number = 0;
    if (!(words >> family >> family_number >> protocol_name >> protocol_number)) {
        return failure("unexpected line in nf_conntrack");
    }
    const auto protocol =
        protocol_number <= 255 ? protocol_from_number(static_cast<std::uint8_t>(protocol_number)) : std::nullopt;
    if (!protocol) {
        return std::nullopt;
    }
    const auto original = parse_tuple(words);
    const auto reply = parse_tuple(words);
    if (!original || !reply) {
        return failure("unexpected line in nf_conntrack");
    }
    return ConntrackEntry{.protocol = *protocol,
                          .zone = parse_number<std::uint16_t>(next_value(words, "zone")).value_or(0),
                          .original_source = original->first,
                          .original_destination = original->second,
                          .reply_source = reply->first,
                          .reply_destination = reply->second,
                          .status = std::nullopt,
                          .tcp_state = protocol == Protocol::tcp ? tcp_state_in(line) : std::nullopt};
}

// "0A60000A" in host order, or an IPv6 address as usual.
std::optional<Address> parse_ipvs_address(std::string_view text) {
    if (text.size() != 8 || text.contains(':')) {
        return parse_address(text);
    }
    auto value = parse_number<std::uint32_t>(text, 16);
    if (!value) {
        return std::nullopt;
    }
    Address address{.family = Family::ipv4};
    for (int i = 3; i >= 0; --i, *value >>= 8U) {
        address.bytes.at(static_cast<std::size_t>(i)) = static_cast<std::uint8_t>(*value & 0xffU);
    }
    return address;
}

}  // namespace

Result<std::optional<ConntrackEntry>> parse_conntrack(const Message& message) {
    if (message.family_header<nfgenmsg>() == nullptr) {
        return failure("truncated conntrack message");
    }
    const auto attributes = AttributeTable<CTA_TIMESTAMP>::parse(message.payload.subspan(sizeof(nfgenmsg)));
    const auto direction = [&attributes](std::uint16_t type) {
        const auto data = attributes ? attributes->find(type) : std::nullopt;
        return data ? parse_tuple(*data) : std::nullopt;
    };
    const auto original = direction(CTA_TUPLE_ORIG);
    const auto reply = direction(CTA_TUPLE_REPLY);
    if (!original || !reply || original->protocol != reply->protocol) {
        return failure("malformed conntrack message");
    }
    const auto protocol = protocol_from_number(original->protocol);
    if (!protocol) {
        return std::nullopt;
    }
    // Of another size, they would be lost silently: whose rewrite it is hangs on the one, which entry on the other.
    const auto status = attributes->number<std::uint32_t>(CTA_STATUS);
    const auto zone = attributes->number<std::uint16_t>(CTA_ZONE);
    if (attributes->find(CTA_STATUS).has_value() != status.has_value() ||
        attributes->find(CTA_ZONE).has_value() != zone.has_value()) {
        return failure("malformed conntrack message");
    }
    if (!original->source_port || !original->destination_port || !reply->source_port || !reply->destination_port) {
        return failure("conntrack message without its ports");
    }
    return ConntrackEntry{.protocol = *protocol,
                          .zone = zone.value_or(0),
                          .original_source = {.ip = original->source, .port = *original->source_port},
                          .original_destination = {.ip = original->destination, .port = *original->destination_port},
                          .reply_source = {.ip = reply->source, .port = *reply->source_port},
                          .reply_destination = {.ip = reply->destination, .port = *reply->destination_port},
                          .status = status,
                          .tcp_state = tcp_state_of(attributes->find(CTA_PROTOINFO).value_or(Bytes{})),
                          .began_ns = began_ns_of(attributes->find(CTA_TIMESTAMP).value_or(Bytes{}))};
}

Result<std::vector<ConntrackEntry>> parse_conntrack_text(std::istream& text) {
    std::vector<ConntrackEntry> entries;
    for (std::string line; std::getline(text, line);) {
        const auto entry = parse_conntrack_line(line);
        if (!entry) {
            return std::unexpected(entry.error());
        }
        if (const auto& found = *entry) {
            entries.push_back(*found);
        }
    }
    return entries;
}

Result<IpvsConnections> parse_ipvs_connections(std::istream& text) {
    IpvsConnections connections;
    std::string line;
    std::getline(text, line);  // "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData"
    while (std::getline(text, line)) {
        std::istringstream words(line);
        std::string protocol_name;
        std::string client_ip;
        std::string client_port;
        std::string virtual_ip;
        std::string virtual_port;
        words >> protocol_name >> client_ip >> client_port >> virtual_ip >> virtual_port;
        const auto client = parse_ipvs_address(client_ip);
        const auto virtual_address = parse_ipvs_address(virtual_ip);
        const auto from = parse_number<std::uint16_t>(client_port, 16);
        const auto to = parse_number<std::uint16_t>(virtual_port, 16);
        if (!client || !virtual_address || !from || !to) {
            return failure("unexpected line in ip_vs_conn");
        }
        if (const auto protocol = parse_protocol(protocol_name)) {
            connections.emplace(*protocol, Endpoint{.ip = *client, .port = *from},
                                Endpoint{.ip = *virtual_address, .port = *to});
        }
    }
    return connections;
}

std::optional<Connection> rewritten_connection(const ConntrackEntry& entry, const IpvsConnections& ipvs) {
    if (entry.reply_source == entry.original_destination) {
        return std::nullopt;
    }
    const bool by_nf_nat = entry.status
                               ? (*entry.status & std::uint32_t{IPS_DST_NAT}) != 0
                               : !ipvs.contains({entry.protocol, entry.original_source, entry.original_destination});
    Connection connection;
    connection.mechanism = by_nf_nat ? Mechanism::nf_nat : Mechanism::ip_vs;
    connection.protocol = entry.protocol;
    connection.zone = entry.zone;
    connection.client = entry.original_source;
    connection.original = entry.original_destination;
    connection.rewritten = entry.reply_source;
    connection.reply_destination = entry.reply_destination;
    connection.committed = true;
    connection.existing = true;
    connection.tcp_state = entry.tcp_state;
    connection.began_ns = entry.began_ns;
    return connection;
}

}  // namespace hptrace
