// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "capture/records.hpp"

namespace hptrace {

// How long after an uncommitted decision an equal one is taken for the same connection, tried again.
// TCP: the gap between retransmissions of a SYN doubles from 1 s on (tcp_retransmit_timer(), TCP_TIMEOUT_INIT), up to
//   32 s with the default of net.ipv4.tcp_syn_retries, 6, and to 64 s with one more. Those of who raises it further
//   (TCP_RTO_MAX: 120 s) are shown again.
// SCTP: that of an INIT ends at RTO.Max, 60 s (RFC 9260, 16; net.sctp.rto_max), and a timer may be late.
// UDP has none of its own: what net.netfilter.nf_conntrack_udp_timeout is by default, which is how far apart the
//   packets may be that conntrack would take for one flow, had the first got through.
constexpr std::chrono::seconds repeat_window(Protocol protocol) {
    switch (protocol) {
        case Protocol::tcp:
            return std::chrono::seconds(64);
        case Protocol::sctp:
            return std::chrono::seconds(62);
        case Protocol::udp:
            break;
    }
    return std::chrono::seconds(30);
}

// Makes connections out of decisions and commits.
//
// A decision of nf_nat waits for its commit, so that the connection can say whether its first packet got through, and
// with which reply tuple. When the first packet is dropped later, each retransmission makes a new conntrack entry and
// the same decision again: these repeats are merged into the first, as long as they follow one another closely
// (repeat_window()). What gets committed is handed over in any case, and once: if the first was handed over as not
// committed before that, as a connection of its own.
//
// Once a decision is committed the same tuples mean a new connection (a reused port) - or that two packets of one
// connection were decided at the same time (a clash, nf_ct_resolve_clash). Of such decisions there are as many
// connections as there are no clashes; where clashes are not seen, one that is never committed so soon after another
// was counts as one.
//
// A commit without a decision is of one whose probe the kernel skipped (the same program was interrupted on that CPU).
// The commit's tuples make the connection.
//
// No clock of its own: `now` is CLOCK_BOOTTIME in nanoseconds, as in the records.
class Merger {
public:
    struct Options {
        bool sees_commits = true;  // false: nothing waits, nothing is merged, committed stays absent
        bool sees_clashes = false;
        std::chrono::nanoseconds hold_time = std::chrono::milliseconds(200);
        std::chrono::nanoseconds clash_time = std::chrono::milliseconds(100);  // a commit and a packet that missed it
        // Of what waits, of the uncommitted decisions and of the commits remembered: the oldest go first.
        std::size_t capacity = 65536;
    };
    using Sink = std::function<void(Connection&&)>;

    explicit Merger(Options options) : options_(options) {}

    void take(Observation&& observation);

    // From now on they are seen, or not: Options.
    void set_sees(bool commits, bool clashes) {
        options_.sees_commits = commits;
        options_.sees_clashes = clashes;
    }

    // Some commits were lost since the last call: of the decisions that wait now, none can be called uncommitted.
    void commits_lost();

    // Some decisions were lost since the last call, and counted: commits without one are theirs.
    void decisions_lost() { orphans_.clear(); }

    // Hands over, in order of decision, what need not wait any longer. Returns how many connections.
    std::size_t release(std::uint64_t now, const Sink& sink);
    // Is none of the decisions made up to then (CLOCK_BOOTTIME, ns) still waiting?
    [[nodiscard]] bool handed_over(std::uint64_t boot_ns) const;
    // Hands over everything; what has no commit yet leaves that open.
    std::size_t release_all(const Sink& sink);

    // How often something was forgotten for lack of room while it mattered: an uncommitted decision, a repeat of which
    // will be handed over as if it were the first, or a commit, whose clash will look like an uncommitted connection.
    [[nodiscard]] std::uint64_t forgotten() const { return forgotten_; }

private:
    // What makes a later decision a repeat of an earlier one.
    struct Key {
        std::uint32_t netns = 0;
        std::uint16_t zone = 0;
        Protocol protocol = Protocol::tcp;
        Endpoint client;
        Endpoint original;
        Endpoint rewritten;

        bool operator==(const Key&) const = default;
    };
    struct KeyHash {
        std::size_t operator()(const Key& key) const noexcept;
    };
    // Position in the order of decisions since the start.
    using Sequence = std::uint64_t;

    struct Waiting {
        Connection connection;
        std::uint64_t ct = 0;
        bool resolved = false;     // need not wait
        bool repeat = false;       // merged into one that waits or was a clash: never handed over
        bool retry = false;        // merged into one that waits no more: handed over only if it may be committed
        bool commit_lost = false;  // no commit will not mean "not committed"
        // Committed or not, it may yet turn out to be a packet of a connection that was committed just before: it waits
        // for the clash as long as others wait for their commits.
        bool doubtful = false;
        Sequence stands_for_it = 0;  // itself, or of a repeat the one it is merged into
        std::size_t stands_for = 1;  // decisions that had no clash: itself and its repeats while it waits
        std::optional<Sequence>
            doubtful_before{};  // the next older one of those with the same key, doubtful, no repeat
    };
    // Equal decisions, one after another, none of which got committed.
    struct Uncommitted {
        std::list<const Key*>::iterator age{};
        Sequence first = 0;  // the decision that repeats are merged into
        Sequence last = 0;
        std::uint64_t last_ns = 0;  // CLOCK_BOOTTIME of the last one
        // Of the last one that waits no more:
        bool denied = false;  // it is known as not committed
        std::uint64_t ct = 0;
        std::uint64_t boot_ns = 0;
        std::optional<std::uint64_t> rule{};
        hptrace_changes changes{};
    };
    using UncommittedByKey = std::unordered_map<Key, Uncommitted, KeyHash>;

    static Key key_of(const Connection& connection);
    Waiting* waiting(Sequence sequence);
    [[nodiscard]] Waiting* by_ct(std::uint64_t ct, const Key& key);
    [[nodiscard]] Waiting* standing_for(Waiting& entry);
    [[nodiscard]] Waiting* newest_doubtful(const Key& key);
    void join_equals(Waiting& entry, Sequence sequence);
    // It was decided when a connection with the same tuples had just been committed.
    [[nodiscard]] bool follows_a_commit(const Connection& connection) const;
    void remember_commit(const Connection& connection);
    void forget_commits(std::uint64_t before);
    [[nodiscard]] static bool is_over(const Uncommitted& open, Protocol protocol, std::uint64_t now);
    void forget(const Key& key);
    void forget(UncommittedByKey::iterator entry);
    void leave_open(const Waiting& entry, Sequence sequence);
    void deny_no_longer(const Uncommitted& open, const Connection& commit);
    void commit(Observation&& observation);
    void clash(const Observation& observation);
    void adopt_orphans();
    std::size_t hand_over_front(const Sink& sink);

    Options options_;
    std::deque<Waiting> waiting_;
    Sequence front_ = 0;                                   // of waiting_.front()
    std::vector<Connection> orphans_;                      // commits without a decision
    std::unordered_map<std::uint64_t, Sequence> by_ct_;    // the newest of an entry's memory, of those that wait
    std::unordered_map<Key, Sequence, KeyHash> doubtful_;  // the newest, of those that wait
    UncommittedByKey uncommitted_;
    std::list<const Key*> ages_;                                 // of its elements, oldest first
    std::unordered_map<Key, std::uint64_t, KeyHash> committed_;  // of late: when (CLOCK_BOOTTIME, ns)
    std::deque<std::pair<std::uint64_t, Key>> commits_;          // the same, oldest first
    std::uint64_t forgotten_ = 0;
};

}  // namespace hptrace
