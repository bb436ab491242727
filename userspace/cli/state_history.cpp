// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/state_history.hpp"

#include <array>
#include <ranges>

namespace hptrace {

namespace {

constexpr std::array<unsigned, 3> counted_sources{HPTRACE_SOURCE_XTABLES, HPTRACE_SOURCE_NFTABLES, HPTRACE_SOURCE_IPVS};

// Counters as compared: what no probe counts says nothing.
class Counters {
public:
    Counters(const hptrace_changes& changes, std::uint32_t tracked) : changes_(changes), tracked_(tracked) {}

    // No change was under way.
    [[nodiscard]] bool settled() const {
        return all([this](unsigned source) { return changes_.begin[source] == changes_.end[source]; });
    }
    // Not one counter is ahead of the other's. The difference is signed: they may wrap around.
    [[nodiscard]] bool not_after(const Counters& other) const {
        return all([&](unsigned source) {
            return static_cast<std::int32_t>(changes_.begin[source] - other.changes_.begin[source]) <= 0 &&
                   static_cast<std::int32_t>(changes_.end[source] - other.changes_.end[source]) <= 0;
        });
    }

private:
    template <class Test>
    [[nodiscard]] bool all(Test test) const {
        for (const auto source : counted_sources) {
            if ((tracked_ & 1U << source) != 0 && !test(source)) {
                return false;
            }
        }
        return true;
    }

    const hptrace_changes& changes_;
    std::uint32_t tracked_;
};

}  // namespace

NodeStatePtr StateHistory::refresh() {
    states_.push_back(sources_.read());
    if (states_.size() > kept) {
        states_.pop_front();
    }
    return states_.back();
}

NodeStatePtr StateHistory::newest() {
    return states_.empty() ? refresh() : states_.back();
}

StateHistory::Neighbours StateHistory::around(const Connection& connection) {
    const auto last = newest();
    if (connection.existing) {
        return {last, last};
    }
    const auto tracked = sources_.tracked();
    if (!Counters(connection.changes, tracked).not_after({last->changes, tracked})) {
        refresh();
    }
    return find(connection.changes);
}

StateHistory::Neighbours StateHistory::find(const hptrace_changes& changes) const {
    const auto tracked = sources_.tracked();
    const Counters wanted(changes, tracked);
    Neighbours found;
    for (const auto& state : states_ | std::views::reverse) {
        const Counters counters(state->changes, tracked);
        // A state read while something changed may show either side of the change.
        if (!state->consistent || !counters.settled()) {
            continue;
        }
        const bool before = counters.not_after(wanted);
        const bool after = wanted.not_after(counters);
        if (before && after) {
            return {state, state};
        }
        if (after) {
            found.after = state;  // the oldest of these is the nearest: go on
        } else if (before) {
            found.before = state;
            break;
        }
    }
    return found;
}

bool StateHistory::all_tracked() const {
    const auto tracked = sources_.tracked();
    for (const auto source : counted_sources) {
        if ((tracked & 1U << source) == 0) {
            return false;
        }
    }
    return true;
}

std::uint64_t StateHistory::age() const {
    return states_.empty() ? UINT64_MAX : sources_.boot_ns() - states_.back()->boot_ns;
}

}  // namespace hptrace
