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

// Makes connections out of decisions and commits.
//
// A decision of nf_nat waits for its commit, so that the connection can say whether its first packet got through, and
// with which reply tuple. When the first packet is dropped later, each retransmission makes a new conntrack entry and
// the same decision again: these repeats are merged into the first. Once a decision is committed the same tuples mean
// a new connection (a reused port) - or that two packets of one connection were decided at the same time (a clash,
// nf_ct_resolve_clash). Of such decisions there are as many connections as there are no clashes; where clashes are not
// seen, one that is never committed so soon after another was counts as one.
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
        std::size_t capacity = 65536;  // of what waits and of the uncommitted decisions remembered: the oldest go first
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
        bool repeat = false;       // merged into an earlier one: never handed over
        bool commit_lost = false;  // no commit will not mean "not committed"
        // Committed or not, it may yet turn out to be a packet of a connection that was committed just before: it waits
        // for the clash as long as others wait for their commits.
        bool doubtful = false;
        Sequence stands_for_it = 0;  // itself, or of a repeat the one it is merged into
        std::size_t stands_for = 1;  // decisions that had no clash: itself and its repeats while it waits
    };
    struct Uncommitted {
        std::list<Key>::iterator age;
        Sequence first = 0;  // the decision that repeats are merged into
    };

    static Key key_of(const Connection& connection);
    Waiting* waiting(Sequence sequence);
    // It was decided when a connection with the same tuples had just been committed.
    [[nodiscard]] bool follows_a_commit(const Connection& connection) const;
    void remember_commit(const Connection& connection);
    void forget_commits(std::uint64_t before);
    Sequence remember(const Key& key, Sequence sequence);
    void forget(const Key& key);
    void commit(Observation&& observation);
    void clash(const Observation& observation);
    void adopt_orphans();
    std::size_t hand_over_front(const Sink& sink);

    Options options_;
    std::deque<Waiting> waiting_;
    Sequence front_ = 0;                                 // of waiting_.front()
    std::vector<Connection> orphans_;                    // commits without a decision
    std::unordered_map<std::uint64_t, Sequence> by_ct_;  // unresolved ones only
    std::unordered_map<Key, Uncommitted, KeyHash> uncommitted_;
    std::list<Key> ages_;                                        // oldest first
    std::unordered_map<Key, std::uint64_t, KeyHash> committed_;  // of late: when (CLOCK_BOOTTIME, ns)
    std::deque<std::pair<std::uint64_t, Key>> commits_;          // the same, oldest first
};

}  // namespace hptrace
