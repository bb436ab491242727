// SPDX-License-Identifier: GPL-2.0-or-later
// What could not be read or understood, and which answers that leaves open. Each question is asked for itself: only
// what could change its answer counts. What merely gives names never does.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "capture/filter.hpp"
#include "judge/finding.hpp"

namespace hptrace {

// A destination, as far as rules can be told apart by it.
struct Asked {
    Family family = Family::ipv4;
    Protocol protocol = Protocol::tcp;
    std::uint16_t port = 0;
};

// Each of these returns why, one line; empty: there is no doubt.

// Could something unread make the destination a Service's?
std::string doubt_about_services(const NodeState& state, const Asked& asked);
// Could something unread make a destination an endpoint of the Service?
std::string doubt_about_endpoints(const NodeState& state, const Service& service);
// Could something unread explain a rewrite that no known rule explains?
std::string doubt_about_rules(const NodeState& state, const Asked& asked);
// Could ip_vs have a virtual server that is not known?
std::string doubt_about_ip_vs(const NodeState& state);

// A conflict that was there, but whose Service or rule is not found in `state`: could it be there all the same, unread?
bool may_remain(const Conflict& conflict, const NodeState& state);

// Why a conflict, or a hijack, that the filter asks for could be there and not be found; one line each. Empty: what is
// found in this state is all there is. Linear in the Services, HostPort rules and unread rules.
std::vector<std::string> doubts(const NodeState& state, const Filter& filter);

}  // namespace hptrace
