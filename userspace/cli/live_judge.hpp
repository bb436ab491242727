// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

#include "cli/state_history.hpp"
#include "judge/finding.hpp"
#include "names/cluster_names.hpp"

namespace hptrace {

// Judges connections in the order they come, by states that are read when a verdict needs that. It never waits: what
// cannot be told yet is looked at again at the next turn, so that one read serves all that waits for it.
//
// A connection made under counters that a state was read under is told at once. Otherwise it waits for a state from
// after it, two seconds at most (one second more if the trace was held up and came to it late); if none comes it is
// `unsettled`, whatever the state before it says.
// What no counter counts (addresses, sets, sandboxes) is confirmed to be as it was read: for anything but `ok` after
// the connection was made, for `ok` some seconds before that at most.
class LiveJudge {
public:
    using Sink = std::function<void(const Finding&)>;

    enum class Haste : std::uint8_t {
        none,
        soon,  // the end: reads follow each other without a pause
        now    // what waits is told by what is known
    };

    explicit LiveJudge(StateHistory& history, ClusterNamesSource cluster = {})
        : history_(history), cluster_(std::move(cluster)) {}

    void take(Connection connection);
    // Hands over the verdicts, with names, on what need not wait any more; to be called at every turn of the trace. It
    // returns after some milliseconds. True: there may be more to be told at once.
    bool judge(const Sink& sink, Haste haste = Haste::none);
    // Nothing was taken that was not handed over.
    [[nodiscard]] bool idle() const { return waiting_.empty(); }
    // When the first of what waits was decided or found (CLOCK_BOOTTIME); nothing: nothing waits.
    [[nodiscard]] std::optional<std::uint64_t> oldest() const {
        return waiting_.empty() ? std::nullopt : std::optional(waiting_.front().connection.boot_ns);
    }
    // So many wait.
    [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }

    // What nobody announces, or was not asked about, may be so old when it makes a connection `ok`.
    static constexpr std::uint64_t longest_unconfirmed_ns = 5'000'000'000;

private:
    // What is missing to tell a verdict.
    enum class Need : std::uint8_t {
        nothing,
        state,        // another state
        confirmation  // of what no counter counts, as it was read last
    };
    struct Waiting {
        Connection connection;
        std::uint64_t taken_ns = 0;  // CLOCK_BOOTTIME of take()
    };
    struct Look {
        Finding finding;
        Need need = Need::nothing;
    };

    [[nodiscard]] Look look(const Connection& connection) const;
    [[nodiscard]] Need need(const Finding& finding, const StateHistory::Neighbours& neighbours) const;
    [[nodiscard]] bool given_up(const Waiting& waiting) const;

    StateHistory& history_;
    ClusterNamesSource cluster_;
    std::deque<Waiting> waiting_;
    std::unordered_set<std::string> known_stale_;  // sandboxes that were looked for again
};

}  // namespace hptrace
