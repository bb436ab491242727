// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.hpp"
#include "capture/connection.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// In the order of design: the first that fits.
enum class Verdict : std::uint8_t {
    unknown,    // needed state unreadable
    unsettled,  // state changed between the two nearest reads and they disagree
    proxied,    // k3s svclb-* of the same Service
    bypassed,   // by a HostPort rule, to an endpoint of the Service
    hijacked,   // by a HostPort rule, to something that is not an endpoint
    foreign,    // Service destination, to a non-endpoint, by some other rule
    stale,      // existing connection that no current rule explains
    ok,
    exposed,   // address that exists only for Services, on a port that is no Service's
    hostport,  // a HostPort used as intended
    other,
};
inline constexpr std::size_t verdict_count = 11;
std::string_view to_string(Verdict verdict);  // "hijacked", ...
std::optional<Verdict> parse_verdict(std::string_view text);
// A verdict that makes the exit status 3: hijacked, stale, foreign.
bool is_alarm(Verdict verdict);

enum class ReasonCode : std::uint8_t {
    other_backend,
    jump_before_kube_services,
    nodeport_ipvs,
    no_local_check,
    no_accept,
    no_endpoints,
    etp_local,
    lb_source_ranges,
    hook_order,
    not_served_here,
};
std::string_view to_string(ReasonCode code);  // "other_backend", ...

enum class Attribution : std::uint8_t {
    exact,     // the rule that acted, from the kernel
    inferred,  // the first rule that explains original and rewritten destination
};
std::string_view to_string(Attribution attribution);

struct Pod {
    std::string ns;
    std::string name;
    bool by_own_account = false;  // nobody but the pod itself says that it is this one (Sandbox::named_by_itself)

    auto operator<=>(const Pod&) const = default;
};

// Is no pod behind a HostPort rule any more?
enum class LeftOver : std::uint8_t {
    no,
    perhaps,  // no sandbox that is known has it; one that is being set up has its rules before it is known
    yes,      // its sandbox was seen and went, or another one has its address, for longer than setting up takes
};

// A HostPort rule that is, or may be, left over: `leftover` is not `no`.
struct LeakedRule {
    HostPortRule rule;
    LeftOver leftover = LeftOver::perhaps;
};

// The verdict on one connection. Pods are filled in by names/, everything else by judge().
struct Finding {
    Connection connection;
    Verdict verdict = Verdict::other;
    std::optional<Service> service;  // whose destination it was
    std::vector<Endpoint> expected;  // the Service's endpoints, at most expected_limit
    std::size_t expected_total = 0;
    std::optional<HostPortRule> rule;  // that did it
    Attribution attribution = Attribution::inferred;
    LeftOver leftover = LeftOver::no;  // the rule
    std::optional<ReasonCode> reason_code;
    std::string reason;               // why, in words, one line; empty where the verdict says it all
    std::string conflict_id;          // of a Service x HostPort rule pair, unique within its namespace; else empty
    std::uint64_t state_boot_ns = 0;  // when the state it was judged by was read
    std::string unknown_why;          // verdict unknown: what could not be read or understood

    // names/
    std::optional<Pod> client_pod;
    std::optional<Pod> rewritten_pod;
    std::optional<Pod> rule_pod;  // whose hostPort the rule is
};
inline constexpr std::size_t expected_limit = 16;

enum class Winner : std::uint8_t { hostport, service, depends };
std::string_view to_string(Winner winner);

// A Service and a HostPort rule that want the same destination, predicted from the rules alone.
struct Conflict {
    std::uint32_t netns = 0;  // inode number; 0: not known (a dump)
    Service service;
    HostPortRule rule;
    Winner winner = Winner::depends;
    std::string depends_on;                 // winner depends: on what, in words
    std::optional<ReasonCode> reason_code;  // why the HostPort wins, or could
    std::string reason;                     // the same in words, one line
    bool bypass = false;  // the HostPort leads to an endpoint or a svclb proxy of the Service: harmless
    LeftOver leftover = LeftOver::no;
    std::string conflict_id;
    std::optional<Pod> rule_pod;  // names/
};

struct FoundConflicts {
    std::vector<Conflict> conflicts;
    std::vector<std::string> doubts{};  // why there may be more, one line each; empty: these are all there are
    bool given_up = false;              // one of them is that there are more than are looked for
};

}  // namespace hptrace
