// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>

#include "base/error.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// The state of the node whose tools' output is in `folder`: iptables-legacy.save, ip6tables-legacy.save,
// iptables-nft.save, ip6tables-nft.save, nft.json, ipvs.save, ipset.save, addresses.json, routes-local.json,
// cni-results/ and meta.json. Executes nothing, needs no privilege, and gives the same model as read_node_state().
// A source whose file is missing is unused if meta.json says so, else unreadable; one whose file cannot be parsed is
// unreadable; neither is a failure. Error: no such folder, none of these files in it, or a broken meta.json.
Result<NodeStatePtr> read_dump(const std::string& folder);

}  // namespace hptrace
