// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>
#include <vector>

#include "capture/filter.hpp"
#include "output/output.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// The first line: what is on this node as far as the filter goes.
Beginning overview(const NodeState& state, const Filter& filter);

// What was not understood; one line each.
std::vector<std::string> not_understood(const NodeState& state);
// Why there may be nothing to see; one line each. Empty if not everything could be read.
std::vector<std::string> nothing_to_see(const NodeState& state, const Filter& filter);

// Sources that could not be read, with why: "nf_tables (Operation not permitted)".
std::vector<std::string> unread_sources(const NodeState& state);

// Was everything read and understood that decides who answers? Names of pods and kinds of Services do not.
bool is_complete(const NodeState& state);
// Does "no hijack" mean anything here: is it complete, and does it have Services at all? Every node has some.
bool can_be_clean(const NodeState& state);

}  // namespace hptrace
