// SPDX-License-Identifier: GPL-2.0-or-later
// judge/: what a connection means, given who should have answered. Pure functions: no I/O, no clock.
#pragma once

#include <string>
#include <vector>

#include "capture/filter.hpp"
#include "judge/finding.hpp"

namespace hptrace {

// The verdict on `connection` by the state it was made under.
Finding judge(const Connection& connection, const NodeState& state);

// The same when no state was read under the connection's own change counters: by the nearest read before and the
// nearest after (null: there is none). An alarm needs both to exist and to agree on the Service and the rule, any
// other verdict needs those that exist to agree; else it is `unsettled`. At least one must be given.
// `changed_between`: something was changed from the one to the other, also if both are the same. Then a rule or an
// endpoint that neither has may have come and gone, and a new connection that nothing explains is `unsettled`, too.
Finding judge_between(const Connection& connection, const NodeState* before, const NodeState* after,
                      bool changed_between = false);

// Every Service/HostPort pair of the state that wants the same destination and matches the filter's ports,
// protocols, family and dest. Prediction: who wins is read from the rules, hook order between tables is not visible.
// One conflict per NodePort, not per node address. Sorted by who wins (HostPort first), then port and address.
std::vector<Conflict> find_conflicts(const NodeState& state, const Filter& filter);

// HostPort rules that match the filter and whose sandbox is gone, or whose address is another's now.
std::vector<HostPortRule> find_leaked(const NodeState& state, const Filter& filter);

// Is the sandbox of a portmap rule gone from the CNI cache, or does its target address belong to another one?
bool is_stale(const HostPortRule& rule, const NodeState& state);

// Stable name of a Service x HostPort rule pair, the same in trace, audit and journal: "c-" and 8 hex digits.
std::string conflict_id(const Service& service, const HostPortRule& rule);

}  // namespace hptrace
