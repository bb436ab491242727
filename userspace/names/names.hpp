// SPDX-License-Identifier: GPL-2.0-or-later
// names/: puts pods and Services to addresses and container ids. Never waits, never does I/O per event.
#pragma once

#include "judge/finding.hpp"
#include "names/cluster_names.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// Fills in the pods of a finding from the sandboxes of the state (libcni cache), and what they leave open, with the
// name of a Service whose rules hold none, from the Kubernetes API. `cluster`: null if there is nothing from that.
void add_names(Finding& finding, const NodeState& state, const ClusterNames* cluster = nullptr);
void add_names(Conflict& conflict, const NodeState& state, const ClusterNames* cluster = nullptr);

}  // namespace hptrace
