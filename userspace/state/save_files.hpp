// SPDX-License-Identifier: GPL-2.0-or-later
// What the standard tools print of ip_vs, ipset, addresses and routes, as the readers of the kernel give it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "state/ipset.hpp"
#include "state/ipvs.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// `ipvsadm-save -n`. Error: the line that names no virtual or real server.
Result<std::vector<VirtualServer>> parse_ipvs_save(std::string_view text);

// `ipset save`: the sets whose name begins with `name_prefix`; the others are passed over, whatever they hold.
Result<std::vector<IpSet>> parse_ipset_save(std::string_view text, std::string_view name_prefix);

// The names of all sets in what `ipset save` prints, sorted.
std::vector<std::string> names_of_ipset_save(std::string_view text);

// `ip -j route show table local`: its entries of type local. Both families may be in one array.
// Error: also if there are none.
Result<std::vector<LocalAddress>> parse_local_routes(std::string_view text);

// `ip -j addr`: the addresses of every interface, as host prefixes. Error: also if there are none.
Result<std::vector<LocalAddress>> parse_addresses(std::string_view text);

}  // namespace hptrace
