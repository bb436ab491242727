// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/conntrack.hpp"

#include <arpa/inet.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.hpp"
#include "base/number.hpp"
#include "base/presence.hpp"
#include "state/netns.hpp"
#include "state/reader.hpp"

namespace hptrace {

namespace {

struct DestroyConntrack {
    void operator()(nf_conntrack* entry) const { nfct_destroy(entry); }
};
using ConntrackPtr = std::unique_ptr<nf_conntrack, DestroyConntrack>;

struct TupleEndAttributes {
    nf_conntrack_attr ipv4;
    nf_conntrack_attr ipv6;
    nf_conntrack_attr port;
};

std::optional<Endpoint> tuple_end(const nf_conntrack* entry, Family family, const TupleEndAttributes& attributes) {
    const auto* const ip = static_cast<const std::uint8_t*>(
        nfct_get_attr(entry, family == Family::ipv4 ? attributes.ipv4 : attributes.ipv6));
    if (ip == nullptr || nfct_attr_is_set(entry, attributes.port) <= 0) {
        return std::nullopt;
    }
    const auto size = Address{.family = family}.size();
    return Endpoint{.ip = make_address(family, Bytes(ip, size)),
                    .port = ntohs(nfct_get_attr_u16(entry, attributes.port))};
}

Result<std::vector<ConntrackEntry>> dump_conntrack() {
    auto socket = NetlinkSocket::open(NETLINK_NETFILTER, "conntrack");
    if (!socket) {
        return std::unexpected(socket.error());
    }
    Request request(nfnl_type(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET), NLM_F_DUMP);
    request.family_header<nfgenmsg>().version = NFNETLINK_V0;  // of all families
    std::vector<ConntrackEntry> entries;
    const auto dumped = socket->exchange(request, [&](const Message& message) -> Result<void> {
        const auto entry = parse_conntrack(message);
        if (!entry) {
            return std::unexpected(entry.error());
        }
        if (const auto& found = *entry) {
            entries.push_back(*found);
        }
        return {};
    });
    if (!dumped) {
        return std::unexpected(dumped.error());
    }
    return entries;
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
std::optional<TcpState> tcp_state_of(const nf_conntrack* entry) {
    if (nfct_attr_is_set(entry, ATTR_TCP_STATE) <= 0) {
        return std::nullopt;
    }
    const auto state = nfct_get_attr_u8(entry, ATTR_TCP_STATE);
    return state < tcp_state_names.size() ? std::optional(static_cast<TcpState>(state)) : std::nullopt;
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

Result<std::vector<ConntrackEntry>> read_conntrack_text() {
    std::ifstream text("/proc/thread-self/net/nf_conntrack");
    if (!text) {
        return system_error("/proc/thread-self/net/nf_conntrack", errno,
                            "this kernel shows conntrack entries neither by netlink nor in /proc");
    }
    return parse_conntrack_text(text);
}

Result<IpvsConnections> read_ipvs_connections() {
    std::ifstream text("/proc/thread-self/net/ip_vs_conn");
    // No ip_vs: nothing was rewritten by it.
    return text ? parse_ipvs_connections(text) : IpvsConnections{};
}

}  // namespace

Result<std::optional<ConntrackEntry>> parse_conntrack(const Message& message) {
    if (message.family_header<nfgenmsg>() == nullptr) {
        return failure("truncated conntrack message");
    }
    const ConntrackPtr parsed(nfct_new());
    if (!parsed) {
        return system_error("conntrack entry", ENOMEM);
    }
    if (nfct_nlmsg_parse(message.header, parsed.get()) < 0) {
        return failure("malformed conntrack message");
    }
    const auto* const entry = parsed.get();
    const auto family = family_from_af(nfct_get_attr_u8(entry, ATTR_ORIG_L3PROTO));
    const auto protocol = protocol_from_number(nfct_get_attr_u8(entry, ATTR_ORIG_L4PROTO));
    if (!family || !protocol) {
        return std::nullopt;
    }
    const auto original_source =
        tuple_end(entry, *family, {ATTR_ORIG_IPV4_SRC, ATTR_ORIG_IPV6_SRC, ATTR_ORIG_PORT_SRC});
    const auto original_destination =
        tuple_end(entry, *family, {ATTR_ORIG_IPV4_DST, ATTR_ORIG_IPV6_DST, ATTR_ORIG_PORT_DST});
    const auto reply_source = tuple_end(entry, *family, {ATTR_REPL_IPV4_SRC, ATTR_REPL_IPV6_SRC, ATTR_REPL_PORT_SRC});
    const auto reply_destination =
        tuple_end(entry, *family, {ATTR_REPL_IPV4_DST, ATTR_REPL_IPV6_DST, ATTR_REPL_PORT_DST});
    if (!original_source || !original_destination || !reply_source || !reply_destination) {
        return failure("conntrack message without its tuples");
    }
    return ConntrackEntry{
        .protocol = *protocol,
        .zone = nfct_get_attr_u16(entry, ATTR_ZONE),
        .original_source = *original_source,
        .original_destination = *original_destination,
        .reply_source = *reply_source,
        .reply_destination = *reply_destination,
        .status = nfct_attr_is_set(entry, ATTR_STATUS) > 0 ? std::optional(nfct_get_attr_u32(entry, ATTR_STATUS))
                                                           : std::nullopt,
        .tcp_state = tcp_state_of(entry),
        .began_ns = nfct_attr_is_set(entry, ATTR_TIMESTAMP_START) > 0
                        ? std::optional(static_cast<std::int64_t>(nfct_get_attr_u64(entry, ATTR_TIMESTAMP_START)))
                        : std::nullopt};
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

Result<std::vector<Connection>> read_existing_connections() {
    if (!subsystem_present("nf_conntrack")) {
        return std::vector<Connection>{};
    }
    const auto netns = current_netns_inode();
    if (!netns) {
        return std::unexpected(netns.error());
    }
    const bool by_netlink = subsystem_present("nf_conntrack_netlink") && subsystem_present("nfnetlink");
    const auto entries = by_netlink ? retry_interrupted(dump_conntrack) : read_conntrack_text();
    const auto ipvs = by_netlink ? Result<IpvsConnections>{} : read_ipvs_connections();
    if (!entries) {
        return std::unexpected(entries.error());
    }
    if (!ipvs) {
        return std::unexpected(ipvs.error());
    }
    const auto now = boot_clock_ns();
    std::vector<Connection> connections;
    // A dump across a resize of the table can hold an entry twice (ctnetlink_dump_table).
    std::set<std::tuple<std::uint16_t, Protocol, Endpoint, Endpoint>> seen;
    for (const auto& entry : *entries) {
        auto connection = rewritten_connection(entry, *ipvs);
        if (connection &&
            seen.emplace(connection->zone, connection->protocol, connection->client, connection->original).second) {
            connection->netns = *netns;
            connection->boot_ns = now;
            connections.push_back(*std::move(connection));
        }
    }
    return connections;
}

}  // namespace hptrace
