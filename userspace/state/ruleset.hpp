// SPDX-License-Identifier: GPL-2.0-or-later
// The rules of one nat or filter table as read from the kernel, before anyone asks what they are for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"
#include "state/node_state.hpp"

namespace hptrace {

template <class T>
struct Match {
    T value{};
    bool inverted = false;
};

enum class TargetKind : std::uint8_t { none, jump, go_to, accept, drop, reject, return_, dnat, redirect, snat, masquerade, mark, other };

struct Target {
    TargetKind kind = TargetKind::none;
    std::string name;  // chain of a jump or goto, else the extension's name ("DNAT", "MARK", ...)
    std::optional<Endpoint> to;   // dnat: destination; port 0: unchanged. redirect: port only
    std::optional<Endpoint> to_last;  // dnat to a range: its last address and port
};

struct SetMatch {
    std::string set;
    std::vector<bool> source;  // per dimension: true src, false dst
};

// One rule: the matches that decide about Services and HostPorts, decoded; everything else only counted.
struct Rule {
    std::optional<std::uint64_t> handle;   // nf_tables
    std::optional<std::uint32_t> offset;   // legacy: offset of the entry in the table blob
    std::optional<Match<std::uint8_t>> l4proto;
    std::optional<Match<Prefix>> source;
    std::optional<Match<Prefix>> destination;
    std::vector<Match<PortRange>> source_ports;       // any of them matches (one entry unless multiport)
    std::vector<Match<PortRange>> destination_ports;  // any of them matches
    std::optional<Match<std::string>> in_interface;
    std::optional<Match<std::string>> out_interface;
    std::optional<bool> destination_local;  // addrtype --dst-type LOCAL / fib daddr type local; false: inverted
    std::optional<bool> source_local;
    std::vector<Match<SetMatch>> sets;      // xt_set, nft lookups in named sets
    std::vector<std::string> other_matches; // names of matches that were understood but do not concern (comment, mark, statistic, recent ...)
    std::vector<std::string> unread;        // matches or expressions this program does not know
    std::string comment;
    Target target;
    std::string text;  // as iptables-save or nft would print it, as far as decoded
};

struct Chain {
    std::string name;
    std::optional<std::string> hook;  // base chains: "PREROUTING", "OUTPUT", ... (upper case in both back ends)
    std::optional<std::int32_t> priority;  // nf_tables base chains
    std::vector<Rule> rules;
};

struct RuleTable {
    Backend backend = Backend::iptables_legacy;
    std::vector<Family> families;  // one, or both for nft's inet
    std::string name;              // "nat", "filter", "cni_hostport", "kube-proxy", ...
    std::vector<Chain> chains;

    [[nodiscard]] const Chain* find_chain(std::string_view chain) const;
};

// Tables nat and filter of iptables-legacy for `family`, of the calling thread's namespace. Only tables listed in
// /proc/thread-self/net/ip{,6}_tables_names are opened: asking for another one would create it (its hooks register).
// Empty: legacy is not used.
Result<std::vector<RuleTable>> read_legacy_tables(Family family);

// All nf_tables tables that can hold nat rules (iptables-nft's nat and filter, native tables with nat chains), in one
// generation-checked dump. Empty: nf_tables is not used. Never asks when nf_tables is not present: that would load it.
Result<std::vector<RuleTable>> read_nf_tables();

// Fills in everything that follows from the rules: hostports, nat_tables, Services of iptables mode, unread_rules,
// whether an ipvs-mode kube-proxy wrote them (KUBE-SERVICES with ipset matches).
void interpret_rules(const std::vector<RuleTable>& tables, NodeState& state);

}  // namespace hptrace
