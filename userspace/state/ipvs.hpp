// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"
#include "state/ipset.hpp"
#include "state/kube_sets.hpp"
#include "state/netlink.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// One virtual server of ip_vs.
struct VirtualServer {
    Family family = Family::ipv4;
    std::uint8_t protocol = 0;  // IPPROTO_*; 0: by firewall mark
    Endpoint address;
    std::uint32_t fwmark = 0;
    bool persistent = false;
    std::vector<Endpoint> real_servers;  // also those of weight 0: existing connections still go there
};

// The virtual servers of the calling thread's network namespace (generic netlink family IPVS).
// Empty if ip_vs is not present: asking would load it. Errors: EPERM, truncated answers.
Result<std::vector<VirtualServer>> read_virtual_servers();

// The virtual server of an IPVS_CMD_NEW_SERVICE message, without real servers. Error: truncated or incomplete.
Result<VirtualServer> parse_virtual_server(const Message& message);
// The real server of an IPVS_CMD_NEW_DEST message. `family` is the virtual server's, for kernels before 3.18 that do
// not say the real server's own (tunnels can mix them). Error: truncated or incomplete.
Result<Endpoint> parse_real_server(const Message& message, Family family);

// Adds the Services that ip_vs serves to `state`, which already holds the local addresses and what the rules say.
// Their kind follows from kube-proxy's ipsets; without them from the device that holds the address. Virtual servers by
// firewall mark or for all ports are only counted. Sets `proxy` if the rules did not.
void add_ipvs_services(const std::vector<VirtualServer>& servers, const std::vector<IpSet>& sets, NodeState& state);

// What kube-proxy's sets are to be asked about these: all but what cannot be Services.
std::vector<SetQuery> set_queries(const std::vector<VirtualServer>& servers);

}  // namespace hptrace
