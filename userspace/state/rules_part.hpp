// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <vector>

#include "state/node_state.hpp"
#include "state/ruleset.hpp"

namespace hptrace {

// What the rules of one source mean: iptables-legacy of one family, or nf_tables. It follows from that source alone, so
// that it can be kept when another one changes:
// - HostPort rules are numbered by back end and family, which no two sources share;
// - kube-proxy writes its nat and its filter table with the same iptables, so what one of them says of the other
//   (iptables mode, where node ports are served) stays within the source.
// Only the Services of two sources can be the same destination; add_rules() joins them.
struct RulesPart {
    ProxyMode proxy = ProxyMode::none;
    std::vector<Service> services;
    std::vector<HostPortRule> hostports;
    std::vector<NatTable> nat_tables;
    std::vector<UnreadRule> unread_rules;
};

// `tables`: all of one source.
RulesPart interpret_source(const std::vector<RuleTable>& tables);

// Adds the part to the state. Of two kube-proxies' modes in one node's rules iptables counts first, then ipvs.
void add_rules(const RulesPart& part, NodeState& state);

}  // namespace hptrace
