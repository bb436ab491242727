// SPDX-License-Identifier: GPL-2.0-or-later
// names/: puts pods to addresses and container ids. Never waits, never does I/O per event.
#pragma once

#include "judge/finding.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// Fills in the pods of a finding from the sandboxes of the state (libcni cache).
void add_names(Finding& finding, const NodeState& state);
void add_names(Conflict& conflict, const NodeState& state);

}  // namespace hptrace
