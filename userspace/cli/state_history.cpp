// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/state_history.hpp"

#include <algorithm>
#include <array>
#include <ranges>

namespace hptrace {

namespace {

constexpr std::array<unsigned, 3> counted_sources{HPTRACE_SOURCE_XTABLES, HPTRACE_SOURCE_NFTABLES, HPTRACE_SOURCE_IPVS};

// Not later. The difference is signed: counters wrap around.
bool reached(std::uint32_t counter, std::uint32_t other) {
    return static_cast<std::int32_t>(counter - other) <= 0;
}

template <class Test>
bool all(std::uint32_t tracked, Test test) {
    return std::ranges::all_of(counted_sources,
                               [&](unsigned source) { return (tracked & 1U << source) == 0 || test(source); });
}

// Who reads or decides while something changes may get either side of the change. So only this is certain:
// What was read is from before the decision, if every change that had begun when the read ended was over by then.
bool is_before(const StateRead& read, const hptrace_changes& decision, std::uint32_t tracked) {
    return all(tracked, [&](unsigned source) {
        const auto begun = read.changes_after.begin[source];
        return reached(begun, decision.end[source]) && reached(begun, decision.begin[source]);
    });
}

// It is from after it, if every change that had begun at the decision was over when the read began.
bool is_after(const StateRead& read, const hptrace_changes& decision, std::uint32_t tracked) {
    return all(tracked, [&](unsigned source) {
        const auto over = read.changes.end[source];
        return reached(decision.begin[source], over) && reached(decision.end[source], over);
    });
}

}  // namespace

const StateRead& StateHistory::refresh() {
    const auto begun = now();
    reads_.push_back(sources_.read());
    if (reads_.size() > kept) {
        reads_.pop_front();
    }
    ended_ = asked_ = now();
    cost_ = ended_ - begun;
    return reads_.back();
}

const StateRead& StateHistory::newest() {
    return reads_.empty() ? refresh() : reads_.back();
}

StateHistory::Neighbours StateHistory::around(const Connection& connection) const {
    const auto tracked = sources_.tracked();
    Neighbours found;
    bool under_before = false;  // the connection was made under these very counters
    bool under_after = false;
    for (const auto& read : reads_ | std::views::reverse) {
        const bool earlier = read.boot_ns <= connection.boot_ns;
        const bool before = connection.existing ? earlier : is_before(read, connection.changes, tracked);
        const bool after = connection.existing ? !earlier : is_after(read, connection.changes, tracked);
        // Under the same counters what nobody counts can be different: then time tells.
        const bool same = before && after;
        if (same ? !earlier : after) {
            found.after = read;  // the oldest of these is the nearest: go on
            under_after = same;
        } else if (before) {
            found.before = read;
            under_before = same;
            break;
        }
    }
    if (sources_.incomplete()) {
        // Equal counters say nothing of what they do not count, equal states do.
        found.changed_between = found.before.state != found.after.state;
        return found;
    }
    if (under_before && !under_after) {
        found.after = found.before;
    } else if (under_after && !under_before) {
        found.before = found.after;
    }
    found.changed_between = !all(tracked, [&](unsigned source) {
        const auto begun = found.before.changes.begin[source];
        return found.before.changes.end[source] == begun && found.after.changes_after.begin[source] == begun;
    });
    return found;
}

bool StateHistory::may_refresh() const {
    return now() - ended_ >= std::clamp(cost_ * reads_share, shortest_pause_ns, longest_wait_ns);
}

bool StateHistory::due() {
    if (!kept_fresh() || now() - asked_ < std::max(cost_ * reads_share, longest_wait_ns)) {
        return false;
    }
    asked_ = now();
    const auto tracked = sources_.tracked();
    const auto changes = sources_.changes();
    const auto& last = newest();
    return sources_.incomplete() || !is_before(last, changes, tracked) || !is_after(last, changes, tracked) ||
           sources_.announced();
}

bool StateHistory::outdated() {
    const auto& last = newest();
    return !kept_fresh() || (!last.watched && now() - last.boot_ns >= longest_wait_ns) || sources_.announced();
}

}  // namespace hptrace
