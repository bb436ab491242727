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
    std::optional<std::uint64_t> rule;          // xtables DNAT: address of the rule's targinfo at that time
    std::optional<bool> committed;              // did the first packet get through? absent: this probe mode cannot tell
    std::optional<Process> process;             // only where it is true (local output)
    bool existing = false;                      // found in conntrack, not seen being made
    hptrace_changes changes{};                  // change counters at the decision; all zero for existing connections
};

}  // namespace hptrace
