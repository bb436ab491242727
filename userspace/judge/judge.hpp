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
// other verdict needs a state from after the connection was made, unless it exists already, and those that exist to
// agree; else it is `unsettled`. At least one must be given.
// `changed_between`: something was changed from the one to the other, also if both are the same. Then a rule or an
// endpoint that neither has may have come and gone, and a new connection that nothing explains is `unsettled`, too.
Finding judge_between(const Connection& connection, const NodeState* before, const NodeState* after,
                      bool changed_between = false);

// Every Service/HostPort pair of the state that wants the same destination and matches the filter's ports,
// protocols, family and dest. Prediction: who wins is read from the rules, hook order between tables is not visible.
// One conflict per NodePort, not per node address. Sorted by who wins (HostPort first), then port and address.
// The work is bounded, whatever anybody wrote into a namespace of his own.
FoundConflicts find_conflicts(const NodeState& state, const Filter& filter);
// So many conflicts are looked for, and so many comparisons made. The largest nodes (20,000 destinations of Services)
// are far from both.
inline constexpr std::size_t most_conflicts = 32'768;
inline constexpr std::size_t most_comparisons = 2'000'000;

// HostPort rules that match the filter and that are, or may be, left over.
std::vector<LeakedRule> find_leaked(const NodeState& state, const Filter& filter);

// Is a portmap rule left over, as far as the state shows it? `boot_ns`: the time it is asked for, CLOCK_BOOTTIME; that
// of the state if it is later. An empty CNI cache says nothing of anybody.
LeftOver left_over(const HostPortRule& rule, const NodeState& state, std::uint64_t boot_ns = 0);
// A pod's rules are there before libcni writes its cache: what is missing for no longer than this may be about to come.
inline constexpr std::uint64_t longest_set_up_ns = 15'000'000'000;

// Stable name of a Service x HostPort rule pair, the same in trace, audit and journal: "c-" and 8 hex digits.
std::string conflict_id(const Service& service, const HostPortRule& rule);

}  // namespace hptrace
