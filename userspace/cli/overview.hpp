// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>
#include <vector>

#include "capture/filter.hpp"
#include "output/output.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// The first line: what is on this node as far as the filter goes. doubts: FoundConflicts' of this state and filter.
Beginning overview(const NodeState& state, const Filter& filter, std::vector<std::string> doubts);

// What was not understood; one line each.
std::vector<std::string> not_understood(const NodeState& state);
// Why there may be nothing to see; one line each. Empty if not everything could be read.
std::vector<std::string> nothing_to_see(const NodeState& state, const Filter& filter);

// Sources that could not be read, with why: "nf_tables (Operation not permitted)", "kubelet (...; gives only names)".
std::vector<std::string> unread_sources(const NodeState& state);
// The same as numbers.
UnreadCount count_unread(const NodeState& state);

// Why "no hijack" and "no conflict" would mean nothing here: what could hide one that the filter asks for (the doubts
// of FoundConflicts), or that there are no Services at all, which every node has; one line each. Empty: it is proven.
std::vector<std::string> not_proven(const NodeState& state, std::vector<std::string> doubts);

}  // namespace hptrace
