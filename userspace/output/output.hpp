// SPDX-License-Identifier: GPL-2.0-or-later
// output/: findings as people (table) and programs (JSON lines) read them. Decides nothing.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "judge/finding.hpp"
#include "output/time.hpp"
#include "output/writer.hpp"

namespace hptrace {

// What was read before anything is shown.
struct Beginning {
    std::string node;
    std::uint32_t netns = 0;  // inode number; 0: not known (a dump)
    ProxyMode proxy = ProxyMode::none;
    std::size_t services = 0;                 // that match the filter
    std::size_t hostports = 0;                // that match the filter
    std::vector<PortRange> ports;             // the filter's
    std::vector<std::string> unread_sources;  // with why: "nf_tables (Operation not permitted)"
    std::size_t unread_rules = 0;
    std::vector<std::string> doubts{};  // why there may be more to find than what is found; one line each
    std::map<std::string, SourceStatus> sources{};
};

// Where something can be lost, as it is told (docs/json-schema.json).
inline constexpr std::array<std::string_view, 8> places_of_loss{"ring_buffer", "unjudged", "pending", "missed_probes",
                                                                "commit",      "repeats",  "journal", "output"};

struct Loss {
    std::string_view where;   // one of places_of_loss
    std::uint64_t count = 0;  // since it was last said
};

// A time in which connections could not be seen.
struct Gap {
    std::uint64_t from_boot_ns = 0;
    std::uint64_t to_boot_ns = 0;
    std::string why;
};

// A kernel function that is probed, or should be.
struct ProbedFunction {
    std::string function;
    std::string mode;  // "fexit", ..., "none"
};

// How many sources cannot be read, or are known only as they were read before.
struct UnreadCount {
    std::size_t deciding = 0;  // that can change an answer
    std::size_t naming = 0;    // that tell only whose something is, of what kind, or what it is called

    bool operator==(const UnreadCount&) const = default;
};

// How the trace itself does.
struct Health {
    std::uint64_t state_reads = 0;   // since the start, of all namespaces
    std::uint64_t state_age_ns = 0;  // since the last one
    UnreadCount unread{};
};

struct Summary {
    std::optional<double> seconds;  // how long it traced; absent: only existing connections were judged
    std::array<std::uint64_t, verdict_count> verdicts{};
    std::optional<std::uint64_t> seen;           // decisions that match the filter
    std::optional<std::uint64_t> not_rewritten;  // of those
    std::uint64_t one_packet = 0;                // packets that ip_vs scheduled one by one: no connections
    std::uint64_t suppressed = 0;                // alarms among the verdicts that --ignore accepts
    std::uint64_t lost = 0;
    std::vector<std::string> unread_sources;
    std::size_t unread_rules = 0;
    std::vector<std::string> doubts{};  // why there may be more in this network namespace
    int exit_status = 0;

    [[nodiscard]] std::uint64_t judged() const;  // sum of verdicts
};

// The end of an audit.
struct AuditSummary {
    std::size_t taken = 0;     // conflicts that the HostPort wins,
    std::size_t possible = 0;  // that it may win,
    std::size_t served = 0;    // that the Service wins,
    std::size_t harmless = 0;  // whose HostPort leads to an endpoint of the Service
    std::size_t leaked = 0;    // rules that are, or may be, left over
    std::vector<std::string> unread_sources;
    std::size_t unread_rules = 0;
    std::vector<std::string> doubts;  // why there may be more
    bool alarm = false;               // it found what asks for exit status 3
    int exit_status = 0;
};

class Output {
public:
    Output() = default;
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;
    Output(Output&&) = delete;
    Output& operator=(Output&&) = delete;
    virtual ~Output() = default;

    virtual void begin(const Beginning& beginning) = 0;  // of each namespace that is traced
    virtual void conflict(const Conflict& conflict) = 0;
    virtual void conflict_ended(const Conflict& conflict) = 0;  // one of these
    virtual void leaked(const LeakedRule& leaked) = 0;
    virtual void tracing(std::string_view how) = 0;  // every probe is attached; "fexit"
    // Every function, at the start and when modules came or went.
    virtual void probes(const std::vector<ProbedFunction>& /*functions*/) {}
    virtual void connection(const Finding& finding) = 0;
    // Every verdict, those too that --only and --ignore keep from being shown.
    virtual void judged(const Finding& /*finding*/) {}
    virtual void lost(const Loss& loss) = 0;
    virtual void gap(const Gap& gap) = 0;
    // Others cannot be read than before; with why. Empty: all can.
    virtual void unread(const std::vector<std::string>& sources) = 0;
    virtual void summary(const Summary& summary) = 0;
    // The last of an audit.
    virtual void audited(const AuditSummary& /*summary*/) {}
    // For what is due by time; to be called at every turn of the trace.
    virtual void turn(const Health& /*health*/) {}
};

struct TextOptions {
    bool colour = false;
    std::uint32_t netns = 0;  // of any other it is said which one; 0: of none
    ClockOffset clock_offset = clock_offset_now;
};

struct JsonOptions {
    std::string node;
    std::string version{};    // of hptrace
    std::uint32_t netns = 0;  // of what says nothing of its own; 0: not known (a dump), or all of them
    std::function<std::uint64_t()> boot_ns = boot_clock_ns;
    ClockOffset clock_offset = clock_offset_now;
};

// The writer must outlive the output.
std::unique_ptr<Output> make_text_output(Writer& writer, TextOptions options);
std::unique_ptr<Output> make_json_output(Writer& writer, JsonOptions options);

// The table of `hptrace audit`.
void print_audit(Writer& writer, const std::vector<Conflict>& conflicts, const std::vector<LeakedRule>& leaked);

// "3306,8000-8100".
std::string to_string(const std::vector<PortRange>& ports);

}  // namespace hptrace
