// SPDX-License-Identifier: GPL-2.0-or-later
// What ConntrackDump (conntrack_dump.hpp) goes through, entry by entry.
#pragma once

#include <cstdint>
#include <istream>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

#include "base/error.hpp"
#include "capture/connection.hpp"
#include "state/netlink.hpp"

namespace hptrace {

// A conntrack entry of a protocol that a Service can have.
struct ConntrackEntry {
    Protocol protocol = Protocol::tcp;
    std::uint16_t zone = 0;
    Endpoint original_source;
    Endpoint original_destination;
    Endpoint reply_source;
    Endpoint reply_destination;
    std::optional<std::uint32_t> status;     // IPS_*; absent in the text form
    std::optional<TcpState> tcp_state{};     // absent: not TCP, or not told
    std::optional<std::int64_t> began_ns{};  // CLOCK_REALTIME; absent: not told
};

// What ip_vs has rewritten, from ip_vs_conn: protocol, client, virtual address.
using IpvsConnections = std::set<std::tuple<Protocol, Endpoint, Endpoint>>;

// One message of a ctnetlink dump; nothing: another protocol. Error: truncated or malformed.
Result<std::optional<ConntrackEntry>> parse_conntrack(const Message& message);
// /proc/net/nf_conntrack (net/netfilter/nf_conntrack_standalone.c, ct_seq_show). Error: a line that is not understood.
Result<std::vector<ConntrackEntry>> parse_conntrack_text(std::istream& text);
// /proc/net/ip_vs_conn (net/netfilter/ipvs/ip_vs_conn.c, ip_vs_conn_seq_show). Error: a line that is not understood.
Result<IpvsConnections> parse_ipvs_connections(std::istream& text);

// The connection, if its destination was rewritten. IPS_DST_NAT tells nf_nat from ip_vs, which changes the reply tuple
// without it (ip_vs_update_conntrack); without a status ip_vs's own table does.
std::optional<Connection> rewritten_connection(const ConntrackEntry& entry, const IpvsConnections& ipvs);

}  // namespace hptrace
