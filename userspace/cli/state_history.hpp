// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "capture/connection.hpp"
#include "state/reader.hpp"

namespace hptrace {

// The last few reads of the node state, found by the change counters they were read under; and when to read again.
// Another thread reads: what is asked for comes back through add() or nothing_new(), one answer for each question.
//
// Reading costs what the node's rules are large. So reads take a tenth of the time at most, with three exceptions: what
// is to be judged waits two seconds at most, and so reads follow each other as closely as that takes; the second one
// follows the first at once, as the connections that exist already wait for it; and no less than a tenth of a second
// lies between any others.
class StateHistory {
public:
    enum class Question : std::uint8_t {
        state,  // read the state
        news    // read it if a source has announced a change that no counter counts
    };

    struct Sources {
        std::function<void(Question)> ask;
        std::function<hptrace_changes()> changes;  // the counters now
        std::function<std::uint32_t()> tracked;    // bit per enum hptrace_source: its counters can be relied on
        std::function<bool()> incomplete;          // something changes that is neither counted nor announced
        std::function<std::uint64_t()> boot_ns;    // CLOCK_BOOTTIME now
        bool kept_fresh = false;                   // it is read when it has changed, though nothing asks for that
        // Packets may be on their way through rules that are replaced already: grace periods are told (grace_over).
        bool graces = false;
    };

    // The reads around a connection. The same: the one it was made under. No state in it: none was read there.
    struct Neighbours {
        StateRead before;
        StateRead after;
        std::vector<NodeStatePtr> between;  // others that it may have met as well
        bool changed_between = true;        // as far as counters tell, something changed from the one to the other
    };

    explicit StateHistory(Sources sources) : sources_(std::move(sources)) {}

    enum class Pause : std::uint8_t { yes, no };
    // Asks, if nothing that was asked is still to be answered; for the state, with a pause, only if the last read is
    // long enough ago.
    void ask(Question question, Pause pause = Pause::yes);
    // The answer: a read, from now on among those that are kept. `oldest`: when the oldest of what still waits to be
    // judged was decided or found (CLOCK_BOOTTIME); the default: nothing waits.
    void add(StateRead read, std::uint64_t oldest = std::numeric_limits<std::uint64_t>::max());
    // The answer: at that time (CLOCK_BOOTTIME) the last read was still true, as far as counters do not tell.
    void nothing_new(std::uint64_t boot_ns);
    // The answer: the state cannot be read any more. What was read before counts on.
    void unreadable();

    // Nothing was read yet.
    [[nodiscard]] bool empty() const { return reads_.empty(); }
    // The last read; there must be one.
    [[nodiscard]] const StateRead& newest() const { return reads_.back(); }
    // Until when the last read was true, as far as counters do not tell (CLOCK_BOOTTIME).
    [[nodiscard]] std::uint64_t confirmed_ns() const;
    // When the last of the questions for the state was asked that have an answer by now (CLOCK_BOOTTIME).
    [[nodiscard]] std::uint64_t answered_ns() const { return answered_ns_; }
    // A read that something changed during is a neighbour like others: what it found of a Service or a rule was so at
    // some moment. It is nobody's own state.
    // Connections that were found in conntrack have the last read before that and the first after.
    [[nodiscard]] Neighbours around(const Connection& connection) const;

    // Is it read again when it has changed, so that it is some seconds old at most?
    [[nodiscard]] bool kept_fresh() const { return sources_.kept_fresh; }
    // Asks what has to be asked to keep it fresh. To be called at every turn of the trace.
    void keep_fresh();
    // CLOCK_BOOTTIME now, in nanoseconds.
    [[nodiscard]] std::uint64_t now() const { return sources_.boot_ns(); }

    // A packet that was on its way through rules when they were replaced goes on through the old ones, and is counted
    // as made under the new ones: nf_tables_commit and ip_vs do not wait for it, as xt_replace_table does. Only when a
    // grace period is over that began after a change is it certain that no packet meets what was before.
    // Has something changed since the last one began, or was asked for?
    [[nodiscard]] bool wants_grace() const;
    // One will begin.
    void grace_begins();
    // It was over then (CLOCK_BOOTTIME).
    void grace_over(std::uint64_t boot_ns);
    // One that nobody asked for here: from `over_ns` on nothing is met that was replaced before these counters.
    void known_grace(const hptrace_changes& since, std::uint64_t over_ns);

    // What waits for a read waits no longer than this after it was decided: 2 s, with a turn of the trace.
    static constexpr std::uint64_t longest_wait_ns = 1'950'000'000;
    // A state that nobody waits for is read again within this time of a change, however much that costs.
    static constexpr std::uint64_t longest_age_ns = 10'000'000'000;

private:
    static constexpr std::size_t most_kept = 32;
    static constexpr std::uint64_t kept_for_ns = 3'000'000'000;  // more than a decision waits for its commit
    static constexpr std::uint64_t shortest_pause_ns = 100'000'000;
    static constexpr std::uint64_t longest_pause_ns = 500'000'000;
    static constexpr std::uint64_t reads_share = 10;  // of the time, one part

    // From `over_ns` on nothing is met that was replaced before these counters.
    struct Grace {
        hptrace_changes since{};
        std::uint64_t over_ns = 0;
    };

    // The oldest rules that it may have met; nothing: that is not known.
    [[nodiscard]] std::optional<hptrace_changes> oldest_met(const Connection& connection) const;
    [[nodiscard]] std::uint64_t shortest_pause() const;
    void put(Question question);

    Sources sources_;
    std::deque<StateRead> reads_;                 // oldest first
    std::deque<Grace> graces_;                    // oldest first
    std::optional<hptrace_changes> grace_since_;  // of the one that was asked for last
    bool grace_under_way_ = false;
    bool asked_ = false;          // and not answered
    std::uint64_t asked_ns_ = 0;  // when
    std::uint64_t answered_ns_ = 0;
    std::uint64_t ended_ns_ = 0;   // the last read was added
    std::uint64_t looked_ns_ = 0;  // keep_fresh() asked for news
    std::uint64_t confirmed_ns_ = 0;
};

}  // namespace hptrace
