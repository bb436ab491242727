// SPDX-License-Identifier: GPL-2.0-or-later
// What judge() and find_conflicts() both ask of a Service and a HostPort rule.
#pragma once

#include <optional>

#include "judge/finding.hpp"

namespace hptrace {

// hostport_matches() for traffic that is forwarded or comes from the node itself.
bool matches_somewhere(const NodeState& state, const HostPortRule& rule, const Endpoint& destination,
                       Protocol protocol);

// Where the rule sends a connection to `port`.
Endpoint target_of(const HostPortRule& rule, std::uint16_t port);

bool has_endpoint(const Service& service, const Endpoint& endpoint);

// Does the rule lead to a ServiceLB pod (k3s klipper-lb: svclb-<service>-…) of this very Service?
bool is_service_proxy(const HostPortRule& rule, const Service& service, const NodeState& state);

// Any address that exists only because of Services: bound to the dummy device of kube-proxy, kube-router or
// node-local-dns.
bool is_service_device(const std::string& device);

// Does the HostPort's jump stand before KUBE-SERVICES in PREROUTING or OUTPUT of the rule's own back end?
bool jumps_first(const HostPortRule& rule, const NodeState& state);

// The back end that holds kube-proxy's ACCEPT of Service addresses (ipvs mode); `preferred` if it does.
std::optional<Backend> accept_backend(const NodeState& state, Family family, Backend preferred);

// Do the Service's rules and the HostPort rule stand in the same base chains?
bool same_table(const Service& service, const HostPortRule& rule);

// Does externalTrafficPolicy Local leave clients from outside to the next nat rule?
bool lets_outside_pass(const Service& service);
// Do loadBalancerSourceRanges leave clients that are in none of them to the next nat rule? (KUBE-FW chains return; in
// nftables mode they are dropped before nat.)
bool lets_strangers_pass(const Service& service);

// Why a connection to `destination` of the Service is (or would be) taken by the rule. `client`: whose it is; absent:
// anyone's.
ReasonCode hijack_reason(const Service& service, const HostPortRule& rule, const std::optional<Address>& destination,
                         const std::optional<Address>& client, const NodeState& state);

}  // namespace hptrace
