// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <vector>

#include "base/error.hpp"
#include "state/netlink.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// The local routing table (type local, IPv4 and IPv6) of the calling thread's network namespace: what xt_addrtype
// and nft's fib call LOCAL. Addresses of kube-ipvs0 are in it although the device is down (fib_add_ifaddr).
// A kernel without IPv6 has no IPv6 entries; that is no error.
Result<std::vector<LocalAddress>> read_local_addresses();

// One RTM_NEWROUTE message.
struct LocalRoute {
    Prefix prefix;
    std::uint32_t device;  // interface index; 0: none given
};
// Nothing: not a local route of the local table. Error: truncated or malformed.
Result<std::optional<LocalRoute>> parse_local_route(const Message& message);

}  // namespace hptrace
