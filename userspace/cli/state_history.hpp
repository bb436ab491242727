// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <deque>
#include <functional>

#include "capture/connection.hpp"
#include "state/reader.hpp"

namespace hptrace {

// The last few reads of the node state, found by the change counters they were read under; and when to read again.
//
// Reading costs what the node's rules are large. So reads take a tenth of the time at most, with two exceptions: what
// is to be judged waits no longer than a second for the next read, and no less than a tenth of a second lies between
// two, so that the reads that are kept reach back further than connections wait for their commit (Capture::Sink).
class StateHistory {
public:
    struct Sources {
        std::function<StateRead()> read;
        std::function<hptrace_changes()> changes;  // the counters now
        // Changes nothing counts, since the last read (NodeReader). Empty: the state is not kept fresh, and may be of
        // any age unless something that waits asks for a read.
        std::function<bool()> announced;
        std::function<std::uint32_t()> tracked;  // bit per enum hptrace_source: its counters can be relied on
        std::function<bool()> incomplete;        // something changes that is neither counted nor announced
        std::function<std::uint64_t()> boot_ns;  // CLOCK_BOOTTIME now
    };

    // The reads around a connection. The same: the one it was made under. No state in it: none was read there.
    struct Neighbours {
        StateRead before;
        StateRead after;
        bool changed_between = true;  // as far as counters tell, something was changed from the one to the other
    };

    explicit StateHistory(Sources sources) : sources_(std::move(sources)) {}

    // Reads the state now and forgets the oldest.
    const StateRead& refresh();
    // Nothing was read yet.
    [[nodiscard]] bool empty() const { return reads_.empty(); }
    // The last read; reads if there was none.
    const StateRead& newest();
    // The same; there must be one.
    [[nodiscard]] const StateRead& last() const { return reads_.back(); }
    // A read that something changed during is a neighbour like others: what it found of a Service or a rule was so at
    // some moment. It is nobody's own state.
    // Reads nothing. Connections that were found in conntrack have the last read before that and the first after.
    [[nodiscard]] Neighbours around(const Connection& connection) const;

    // May the state be read again for what waits to be judged?
    [[nodiscard]] bool may_refresh() const;
    // Is it read again when it has changed, so that it is seconds old at most?
    [[nodiscard]] bool kept_fresh() const { return static_cast<bool>(sources_.announced); }
    // Should it be read again for that: has it changed, or could it have unnoticed, and is the last read long enough
    // ago?
    [[nodiscard]] bool due();
    // Can the newest read be out of date though no counter moved: was something announced, or is it older than a second
    // and of sources that announce nothing?
    [[nodiscard]] bool outdated();
    // CLOCK_BOOTTIME now, in nanoseconds.
    [[nodiscard]] std::uint64_t now() const { return sources_.boot_ns(); }

    // What waits for a read waits no longer than this.
    static constexpr std::uint64_t longest_wait_ns = 1'000'000'000;

private:
    static constexpr std::size_t kept = 4;
    static constexpr std::uint64_t shortest_pause_ns = 100'000'000;
    static constexpr std::uint64_t reads_share = 10;  // of the time, one part

    Sources sources_;
    std::deque<StateRead> reads_;  // oldest first
    std::uint64_t ended_ = 0;      // the last read
    std::uint64_t cost_ = 0;       // how long it took
    std::uint64_t asked_ = 0;      // due() for changes, or the last read
};

}  // namespace hptrace
