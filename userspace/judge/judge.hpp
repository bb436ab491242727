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
// nearest after. An alarm needs both to agree, else the verdict is `unsettled`.
Finding judge_between(const Connection& connection, const NodeState& before, const NodeState& after);

// Every Service/HostPort pair of the state that wants the same destination and matches the filter's ports,
// protocols, family and dest. Prediction: who wins is read from the rules, hook order between tables is not visible.
std::vector<Conflict> find_conflicts(const NodeState& state, const Filter& filter);

// Stable name of a Service x HostPort rule pair, the same in trace, audit and journal: "c-" and 8 hex digits.
std::string conflict_id(const Service& service, const HostPortRule& rule);

// Why the HostPort rule won (plain words, one line) and what to do about it. `pod`: "namespace/name" or empty.
std::string reason_text(ReasonCode code, const Service& service, const HostPortRule& rule, const NodeState& state);
std::string advice_text(ReasonCode code, const Service& service, const HostPortRule& rule, bool stale, const std::string& pod);

}  // namespace hptrace
