// SPDX-License-Identifier: GPL-2.0-or-later
// The rules of one nat or filter table as read from the kernel, before anyone asks what they are for.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"
#include "state/node_state.hpp"
#include "state/versioned.hpp"

namespace hptrace {

template <class T>
struct Match {
    T value{};
    bool inverted = false;

    bool operator==(const Match&) const = default;
};

// One port condition: the port lies in one of the ranges (inverted: in none of them).
struct PortMatch {
    std::vector<PortRange> any_of;
    bool inverted = false;

    bool operator==(const PortMatch&) const = default;
};

enum class TargetKind : std::uint8_t {
    none,
    jump,
    go_to,
    accept,
    drop,
    reject,
    return_,
    dnat,
    redirect,
    snat,
    masquerade,
    mark,
    verdict_map,  // nft's vmap: what Rule::maps yields
    other
};

struct Target {
    TargetKind kind = TargetKind::none;
    std::string name;            // chain of a jump or goto, else the extension's name ("DNAT", "MARK", ...)
    std::optional<Endpoint> to;  // dnat, snat: new address (unspecified: unchanged) and port (0: unchanged). redirect:
                                 // port. Absent where Rule::maps yields it.
    std::optional<Endpoint> to_last;  // a range: its last address and port

    bool operator==(const Target&) const = default;
};

struct SetMatch {
    std::string set;
    std::vector<bool> source;  // per dimension: true src, false dst

    bool operator==(const SetMatch&) const = default;
};

// A part of the concatenation a set's key is, by the name of its type in nft: ipv4_addr, ipv6_addr, inet_proto,
// inet_service; number is any other integer (numgen), of which the value is not kept.
enum class SetPart : std::uint8_t { ipv4_address, ipv6_address, protocol, port, number };

enum class SetData : std::uint8_t { none, verdict, address, address_and_port };  // none: a set, the others: maps

// What the set's type does not have stays zero or empty.
struct SetElement {
    struct Key {
        Address ip;
        std::uint8_t protocol = 0;
        std::uint16_t port = 0;

        auto operator<=>(const Key&) const = default;
    };

    Key key;
    TargetKind verdict = TargetKind::none;  // accept, drop, return_, jump, go_to
    std::string chain;                      // of a jump or goto
    Endpoint to;                            // port 0: the map yields none
    std::string comment;

    auto operator<=>(const SetElement&) const = default;
};

// A named set or map of nf_tables, of a type that is evaluated here.
struct NftSet {
    std::string name;
    std::vector<SetPart> key;
    SetData data = SetData::none;
    Family family = Family::ipv4;      // of the addresses in it
    std::vector<SetElement> elements;  // in no order
    bool whole = true;                 // false: there are elements that were not understood

    bool operator==(const NftSet&) const = default;
};

// What is looked up; any: a random number, so every element may be the one.
enum class LookupField : std::uint8_t {
    source_address,
    destination_address,
    protocol,
    source_port,
    destination_port,
    any,
    other
};

// A lookup whose result is the verdict or the new destination: "ip daddr . meta l4proto . th dport vmap @service-ips",
// "dnat to numgen random mod 2 map { 0 : 10.0.0.1 . 80, ... }".
struct MapLookup {
    std::vector<LookupField> key;
    SetData data = SetData::none;
    Family family = Family::ipv4;      // of the addresses in it
    std::string map;                   // empty: an anonymous one
    std::vector<SetElement> elements;  // of an anonymous one

    bool operator==(const MapLookup&) const = default;
};

// Of a rule of iptables-legacy.
struct LegacyPlace {
    std::uint32_t offset = 0;            // of its entry in the blob
    std::optional<std::uint32_t> chain;  // the one it jumps or goes to, by its place in RuleTable::chains

    bool operator==(const LegacyPlace&) const = default;
};

// One rule. Conditions that decide about Services and HostPorts are decoded; a packet must meet all of them.
struct Rule {
    std::optional<std::uint64_t> handle;  // nf_tables
    std::optional<LegacyPlace> legacy;    // in RuleTable::legacy
    std::optional<Family> family;         // rules of an inet table that are for one family
    std::optional<Match<std::uint8_t>> l4proto;
    std::vector<Match<Prefix>> sources;
    std::vector<Match<Prefix>> destinations;
    std::vector<PortMatch> source_ports;
    std::vector<PortMatch> destination_ports;
    std::optional<Match<std::string>> in_interface;  // "eth+": every name that begins with eth
    std::optional<Match<std::string>> out_interface;
    std::optional<bool> destination_local;  // addrtype --dst-type LOCAL / fib daddr type local; false: inverted
    std::optional<bool> source_local;
    std::vector<Match<SetMatch>> sets;  // xt_set, nft lookups in named sets
    std::vector<MapLookup> maps;        // at most one; a packet it yields nothing for goes on to the next rule
    std::vector<std::string>
        conditions;  // matches this program knows but does not evaluate ("-m mark --mark 0x1", "ct state")
    std::vector<std::string> unread;  // matches or expressions it does not know: what the rule does is not certain
    std::string comment;
    Target target;

    bool operator==(const Rule&) const = default;
};

class LegacyRules;

// Where the rules of a chain are in RuleTable::legacy.
struct LegacyChain {
    std::uint32_t begin = 0;  // offset of the first one
    std::uint32_t end = 0;    // behind the last one: what follows is the chain's policy, which nobody wrote
    std::uint32_t first_jump = 0;
    std::uint32_t end_of_jumps = 0;
};

// Whoever walks through a chain of any table takes its rules from a RuleRange.
struct Chain {
    std::string name;
    std::optional<std::string> hook;       // base chains: "PREROUTING", "OUTPUT", ... (upper case in every back end)
    std::optional<std::int32_t> priority;  // nf_tables base chains
    std::string type;                      // nf_tables base chains: "nat", "filter", "route"
    std::vector<Rule> rules;               // none if the table is RuleTable::legacy
    LegacyChain legacy{};
};

struct RuleTable {
    Backend backend = Backend::iptables_legacy;
    std::vector<Family> families;  // one, or both for nft's inet
    std::string name;              // "nat", "filter", "cni_hostport", "kube-proxy", ...
    std::vector<Chain> chains;
    std::vector<NftSet> sets;  // if sets_matter(); sorted by name
    // iptables-legacy as the kernel has it: rules are decoded while someone looks at them. Null: the chains have them.
    std::shared_ptr<const LegacyRules> legacy{};

    // Linear; null: no such chain.
    [[nodiscard]] const Chain* find_chain(std::string_view chain) const;
};

// Can a table of nf_tables hold nat rules, or say what kube-proxy's filter rules say? Others are left alone.
bool can_hold_nat(const RuleTable& table);
bool can_hold_nat(std::string_view name, bool has_nat_chain);
// Does the table keep Services or HostPorts in maps (kube-proxy's nftables mode, CRI-O)? Of others no sets are read: a
// firewall's may be huge, and mean nothing here.
bool sets_matter(const RuleTable& table);
bool sets_matter(std::string_view table);
// Who wrote what of a table of nf_tables: its base chains are iptables-nft's or others', which may share a table
// (people declare a "table ip nat" of their own, iptables-nft then uses it too). One table of Backend::iptables_nft or
// Backend::nftables, or one of each, with the base chains and all that they lead to.
std::vector<RuleTable> by_back_end(RuleTable table);

// Length of the prefix an address mask (network order) stands for; nothing: it has holes and is none.
std::optional<std::uint8_t> mask_length(std::span<const std::uint8_t> mask);

// Tables nat and filter of iptables-legacy for `family`, of the calling thread's namespace. Only tables listed in
// /proc/thread-self/net/ip{,6}_tables_names are opened: asking for another one would create it (its hooks register).
// Empty: legacy is not used.
Result<std::vector<RuleTable>> read_legacy_tables(Family family);

// All nf_tables tables that can hold nat rules (iptables-nft's nat and filter, native tables with nat chains), as they
// are in one generation (NftReader). Empty: nf_tables is not used. Never asks when nf_tables is not present: that would
// load it.
Result<std::vector<RuleTable>> read_nf_tables();

// The same, unless the ruleset still has the version that was known: its generation plus one; zero without nf_tables.
ReadIfNew<std::vector<RuleTable>> read_nf_tables_if_new(std::optional<std::uint64_t> known);

// Fills in everything that follows from the rules: hostports, nat_tables, Services of iptables mode, unread_rules, and
// proxy where rules show it (iptables, ipvs or nftables mode; else it is left alone).
void interpret_rules(std::vector<RuleTable> tables, NodeState& state);

}  // namespace hptrace
