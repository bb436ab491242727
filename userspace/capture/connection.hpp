// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/address.hpp"
#include "hptrace/record.h"

namespace hptrace {

// Who rewrote the destination.
enum class Mechanism : std::uint8_t { nf_nat, ip_vs };

struct Process {
    std::uint32_t pid = 0;
    std::string comm;
};

// Of conntrack's entry of a TCP connection; enum tcp_conntrack (include/uapi/linux/netfilter/nf_conntrack_tcp.h).
enum class TcpState : std::uint8_t {
    none,
    syn_sent,
    syn_recv,
    established,
    fin_wait,
    close_wait,
    last_ack,
    time_wait,
    close,
    syn_sent2
};
// By TcpState. /proc/net/nf_conntrack has them in capitals (tcp_conntrack_names, nf_conntrack_proto_tcp.c).
inline constexpr std::array<std::string_view, 10> tcp_state_names{"none",     "syn_sent",   "syn_recv", "established",
                                                                  "fin_wait", "close_wait", "last_ack", "time_wait",
                                                                  "close",    "syn_sent2"};
static_assert(tcp_state_names.size() == static_cast<std::size_t>(TcpState::syn_sent2) + 1);
constexpr std::string_view to_string(TcpState state) {
    return tcp_state_names.at(static_cast<std::size_t>(state));
}
// One of the ends has closed it, or reset it: whatever led it where it goes, it is about to be gone.
constexpr bool is_closing(TcpState state) {
    return state >= TcpState::fin_wait && state <= TcpState::close;
}

// What the kernel did with one connection, observed, never predicted.
struct Connection {
    Mechanism mechanism = Mechanism::nf_nat;
    Protocol protocol = Protocol::tcp;
    std::uint32_t netns = 0;                    // inode number of the network namespace
    std::uint16_t zone = 0;                     // conntrack zone
    std::uint64_t boot_ns = 0;                  // CLOCK_BOOTTIME of the decision; of the dump for existing connections
    Endpoint client;                            // original tuple, source
    Endpoint original;                          // original tuple, destination
    Endpoint rewritten;                         // reply tuple, source
    std::optional<Endpoint> reply_destination;  // reply tuple, destination, once final
    // What nf_nat_setup_info got as range. xtables DNAT (both back ends): the rule's targinfo, under `changes` only.
    // Native nft, REDIRECT and NETMAP pass a range on the stack: an address that is no rule's.
    std::optional<std::uint64_t> rule;
    std::optional<bool> committed;   // did the first packet get through (within 200 ms)? absent: cannot tell
    std::optional<Process> process;  // only where it is true (local output)
    bool existing = false;           // found in conntrack, not seen being made
    // Of existing connections; absent: another protocol, or conntrack does not say.
    std::optional<TcpState> tcp_state{};
    std::optional<std::int64_t> began_ns{};  // CLOCK_REALTIME; only with net.netfilter.nf_conntrack_timestamp
    hptrace_changes changes{};               // of its namespace, at the decision; all zero for existing connections
};

}  // namespace hptrace
