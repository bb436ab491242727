// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "capture/connection.hpp"
#include "state/node_state.hpp"

namespace hptrace {

struct ReaderOptions {
    std::string cni_results = "/var/lib/cni/results";
    // Change counters as of now (Capture::changes); read before and after the dump. Default: all zero.
    std::function<hptrace_changes()> changes;
};

// Reads the whole state of the network namespace the calling thread is in: natively, executing nothing and
// changing nothing (no legacy table, netlink family or module is touched unless it is already there).
// Sources that could not be read are marked in NodeState::sources; that is not a failure.
// Retries a few times while the counters move; the result says `consistent`.
NodeStatePtr read_node_state(const ReaderOptions& options);

// The connections conntrack knows now whose destination was rewritten, of the calling thread's namespace:
// nf_nat ones by IPS_DST_NAT, ip_vs ones (net.ipv4.vs.conntrack=1) by a changed reply tuple without it.
// Uses ctnetlink if nf_conntrack_netlink is present, else /proc/thread-self/net/nf_conntrack.
// No conntrack at all: an empty list.
Result<std::vector<Connection>> read_existing_connections();

}  // namespace hptrace
