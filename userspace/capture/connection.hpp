// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/address.hpp"
#include "hptrace/record.h"

namespace hptrace {

// Who rewrote the destination.
enum class Mechanism : std::uint8_t { nf_nat, ip_vs };

struct Process {
    std::uint32_t pid = 0;
    std::string comm;
};

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
    hptrace_changes changes{};       // of its namespace, at the decision; all zero for existing connections
};

}  // namespace hptrace
