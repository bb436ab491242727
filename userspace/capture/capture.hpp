// SPDX-License-Identifier: GPL-2.0-or-later
// capture/: attaches the BPF programs and turns their records into Connections. Knows nothing of Services.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "capture/connection.hpp"
#include "capture/filter.hpp"

namespace hptrace {

// How a function is observed. confirm: entry kprobe joined at __nf_conntrack_confirm (drops before it are not seen).
// fixed: kprobe that reads types of a module without BTF where they are in all kernels known.
enum class ProbeMode : std::uint8_t { none, fexit, kprobe, confirm, fixed };
enum class ProbeChoice : std::uint8_t { automatic, fexit, kprobe };
// decision: rewrites themselves. commit: whether their first packet got through. clash: that another packet of the same
// connection did. change: that rules or Services change.
enum class ProbePurpose : std::uint8_t { decision, commit, clash, change };

std::string_view to_string(ProbeMode mode);  // "none", "fexit", "kprobe", "kprobe at confirm", ...

// What happened to one probed subsystem or function.
struct ProbeStatus {
    ProbePurpose purpose = ProbePurpose::decision;
    std::string subsystem;  // "nf_nat", "ip_vs", "x_tables", "nf_tables"
    std::string function;   // kernel function, e.g. "nf_nat_setup_info"
    ProbeMode mode = ProbeMode::none;
    bool present = false;        // the subsystem is loaded or built in
    std::string why_not_better;  // why better modes were refused; empty if the best allowed one works

    // The function may change rules or Services unnoticed: a trace looks at them every second instead.
    [[nodiscard]] bool misses_changes() const {
        return purpose == ProbePurpose::change && present && mode == ProbeMode::none;
    }
};

// What `doctor` finds out.
struct ProbeTrial {
    std::vector<ProbeStatus> probes;
    std::optional<Error> obstacle;  // the error a trace would end with, where tracing is impossible
};

// Losses and totals since the start; see enum hptrace_counter.
struct CaptureCounters {
    std::uint64_t seen = 0;                // nf_nat decisions that match the filter, rewritten or not
    std::uint64_t rewritten = 0;           // of those, rewritten
    std::uint64_t ipvs = 0;                // ip_vs schedulings that match the filter
    std::uint64_t ipvs_one_packet = 0;     // of those, packets of one-packet scheduling: never a connection
    std::uint64_t ipvs_not_rewritten = 0;  // of those, direct routing, tunnel or local node: never a connection
    std::uint64_t cache_hits = 0;
    std::uint64_t lost_ring = 0;      // decisions lost: the ring buffer was full
    std::uint64_t lost_commit = 0;    // commit notes lost (the connection itself is shown)
    std::uint64_t lost_pending = 0;   // kprobe mode: decisions that could not be joined
    std::uint64_t missed_probes = 0;  // kernel's own misses (recursion_misses, kprobe nmissed) where it counts them
    // For lack of room: what was remembered of a connection, so that repeats of its decision are not shown as others.
    std::uint64_t forgotten = 0;

    // Connections that match the filter and were left as they are, also by ip_vs (direct routing, tunnel). One that
    // ip_vs rewrites passes nf_nat first, unchanged.
    [[nodiscard]] std::uint64_t not_rewritten() const;
};

// A subsystem that is probed came or went.
struct SubsystemChange {
    std::string subsystem;           // "nf_nat", "x_tables", ...
    bool decides = false;            // it makes decisions: "nf_nat" or "ip_vs"
    bool loaded = false;             // and traced, as far as probes() says; else it rewrites nothing any more
    std::uint64_t from_boot_ns = 0;  // CLOCK_BOOTTIME; loaded: from then on it was perhaps there, not traced
    std::uint64_t to_boot_ns = 0;    // and until then
};

struct CaptureOptions {
    Filter filter;
    ProbeChoice choice = ProbeChoice::automatic;
};

class Capture {
public:
    // Called for every connection, in order of decision. A decision waits up to 200 ms for its commit. Of decisions
    // that follow one another uncommitted (retransmits after a drop, see repeat_window()) the sink sees the first only,
    // `committed` false. Whatever got committed it sees once, also if it is a repeat of such a one: a retransmission
    // that gets through at last is handed over then, as a Connection of its own, `committed` true.
    using Sink = std::function<void(Connection&&)>;

    // Loads and attaches everything this kernel offers. What is not loaded yet is attached by follow_modules(). Fails
    // when one of nf_nat and ip_vs is there and neither could be attached: the error says why (no root, no BTF,
    // lockdown, ...) and what to do. Nothing stays attached after a failure.
    static Result<Capture> start(const CaptureOptions& options);

    // What `doctor` shows: tries each mode of each function by loading and attaching, leaves nothing attached.
    static ProbeTrial probe(ProbeChoice choice);

    Capture(Capture&&) noexcept;
    Capture& operator=(Capture&&) noexcept;
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;
    ~Capture();  // detaches

    // Attaches to modules that were loaded meanwhile, forgets those that were unloaded; to be called as often as
    // poll(). Of decisions that a subsystem made meanwhile there is no record, conntrack has them.
    // Error: modules come and go unnoticed; what is attached works on. Calling again will not help.
    Result<std::vector<SubsystemChange>> follow_modules();

    // The mode nf_nat decisions (else ip_vs ones) are seen with; none: neither is loaded.
    [[nodiscard]] ProbeMode mode() const;
    [[nodiscard]] const std::vector<ProbeStatus>& probes() const;

    // Is every probe counted that the kernel skips (CaptureCounters::missed_probes)? Reads the kernel's BTF.
    [[nodiscard]] bool counts_missed() const;

    // To be called at least every 50 ms (it does so itself within a longer timeout): below a mark, records make no
    // noise. Waits up to `timeout` for records, hands over all that are there. Returns how many connections the sink
    // got. EINTR is not an error (0 connections).
    Result<std::size_t> poll(std::chrono::milliseconds timeout, const Sink& sink);

    // Has the sink got every decision made up to then (CLOCK_BOOTTIME, ns) that was there at the last poll()?
    [[nodiscard]] bool handed_over(std::uint64_t boot_ns) const;

    // Hands over everything still held back (decisions waiting for their commit). For the end of a trace.
    Result<std::size_t> drain(const Sink& sink);

    // Descriptor (epoll) that becomes readable when a burst fills the ring faster than poll() is called regularly. It
    // does not announce single records.
    [[nodiscard]] int descriptor() const;

    // Change counters as of now of the network namespace with that inode number, repaired where the kernel missed a
    // probe (see ChangeBalance), and comparable with those of Connections made in it. A change whose namespace cannot
    // be told counts for all, and seldom two namespaces count each other's (hptrace_change_slot()). Sources whose
    // probes are not attached stay at zero. No system call.
    //
    // This and the next two may be called by any thread at any time: counters are memory shared with the kernel, their
    // repair has a lock of its own. All else is for one thread.
    [[nodiscard]] hptrace_changes changes(std::uint32_t netns) const;
    // Bit per enum hptrace_source: its change probes are attached, so its counters can be relied on.
    [[nodiscard]] std::uint32_t tracked_sources() const;
    // Rules or Services of some subsystem can change without any counter telling: it is there, or comes unnoticed, and
    // is not probed.
    [[nodiscard]] bool misses_changes() const;
    // Asks the kernel, by two system calls for each program that is attached, what it missed: not to be called at every
    // turn.
    [[nodiscard]] CaptureCounters counters() const;

private:
    class Impl;
    explicit Capture(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace hptrace
