// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/state_history.hpp"

#include <algorithm>
#include <array>
#include <ranges>
#include <utility>

namespace hptrace {

namespace {

constexpr std::array<unsigned, 3> counted_sources{HPTRACE_SOURCE_XTABLES, HPTRACE_SOURCE_NFTABLES, HPTRACE_SOURCE_IPVS};
// Of those whose end does not wait for packets that are on their way.
constexpr std::array<unsigned, 2> sources_with_grace{HPTRACE_SOURCE_NFTABLES, HPTRACE_SOURCE_IPVS};

constexpr std::uint64_t look_for_news_ns = 1'000'000'000;

// Not later. The difference is signed: counters wrap around.
bool reached(std::uint32_t counter, std::uint32_t other) {
    return static_cast<std::int32_t>(counter - other) <= 0;
}

template <class Sources, class Test>
bool all(const Sources& sources, std::uint32_t tracked, Test test) {
    return std::ranges::all_of(sources, [&](unsigned source) { return (tracked & 1U << source) == 0 || test(source); });
}

// Who reads or decides while something changes may get either side of the change. So only this is certain:
// What was read is from before these counters, if every change that had begun when the read ended was over by then.
bool is_before(const StateRead& read, const hptrace_changes& counters, std::uint32_t tracked) {
    return all(counted_sources, tracked, [&](unsigned source) {
        const auto begun = read.changes_after.begin[source];
        return reached(begun, counters.end[source]) && reached(begun, counters.begin[source]);
    });
}

// It is from after them, if every change that had begun at that time was over when the read began.
bool is_after(const StateRead& read, const hptrace_changes& counters, std::uint32_t tracked) {
    return all(counted_sources, tracked, [&](unsigned source) {
        const auto over = read.changes.end[source];
        return reached(counters.begin[source], over) && reached(counters.end[source], over);
    });
}

}  // namespace

void StateHistory::put(Question question) {
    asked_ = true;
    asked_ns_ = now();
    sources_.ask(question);
}

void StateHistory::ask(Question question, Pause pause) {
    const bool may_read = pause == Pause::no || reads_.size() < 2 || now() - ended_ns_ >= shortest_pause();
    if (!asked_ && (question == Question::news || may_read)) {
        put(question);
    }
}

void StateHistory::add(StateRead read, std::uint64_t oldest) {
    reads_.push_back(std::move(read));
    ended_ns_ = now();
    answered_ns_ = asked_ns_;
    asked_ = false;
    // One from before all that may still have to be judged, and those since.
    const auto needed = std::min(ended_ns_, oldest);
    while (reads_.size() > most_kept || (reads_.size() > 2 && reads_[1].boot_ns + kept_for_ns < needed)) {
        reads_.pop_front();
    }
}

void StateHistory::nothing_new(std::uint64_t boot_ns) {
    confirmed_ns_ = boot_ns;
    asked_ = false;
}

void StateHistory::unreadable() {
    ended_ns_ = now();
    answered_ns_ = asked_ns_;
    asked_ = false;
}

std::uint64_t StateHistory::confirmed_ns() const {
    return std::max(confirmed_ns_, newest().boot_ns);
}

// What came just after a read had begun waits for all of it, the pause and the next one, which may well
// cost more than the last: the dearest of those that are kept counts.
std::uint64_t StateHistory::shortest_pause() const {
    const auto cost = std::ranges::max(reads_, {}, &StateRead::took_ns).took_ns;
    const auto reads = 2 * cost + shortest_pause_ns;
    const auto left = longest_wait_ns > reads ? longest_wait_ns - reads : 0;
    return std::max(shortest_pause_ns, std::min({cost * reads_share, longest_pause_ns, left}));
}

std::optional<hptrace_changes> StateHistory::oldest_met(const Connection& connection) const {
    auto counters = connection.changes;
    if (!sources_.graces) {
        return counters;
    }
    const auto over = std::ranges::find_if(graces_ | std::views::reverse,
                                           [&](const Grace& grace) { return grace.over_ns <= connection.boot_ns; });
    if (over == graces_.rend()) {
        return std::nullopt;
    }
    for (const auto source : sources_with_grace) {
        if (reached(over->since.begin[source], counters.begin[source])) {
            counters.begin[source] = over->since.begin[source];
            counters.end[source] = over->since.end[source];
        }
    }
    return counters;
}

StateHistory::Neighbours StateHistory::around(const Connection& connection) const {
    const auto tracked = sources_.tracked();
    const auto oldest = oldest_met(connection);
    Neighbours found;
    bool under_before = false;  // the connection was made under these very counters
    bool under_after = false;
    for (const auto& read : reads_ | std::views::reverse) {
        const bool earlier = read.boot_ns <= connection.boot_ns;
        const bool before = connection.existing ? earlier : oldest && is_before(read, *oldest, tracked);
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
        } else {
            found.between.push_back(read.state);
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
    found.changed_between = !all(counted_sources, tracked, [&](unsigned source) {
        const auto begun = found.before.changes.begin[source];
        return found.before.changes.end[source] == begun && found.after.changes_after.begin[source] == begun;
    });
    return found;
}

void StateHistory::keep_fresh() {
    if (!kept_fresh() || empty() || asked_) {
        return;
    }
    const auto since_read = now() - ended_ns_;
    if (since_read < std::clamp(newest().took_ns * reads_share, look_for_news_ns, longest_age_ns)) {
        return;
    }
    const auto tracked = sources_.tracked();
    const auto changes = sources_.changes();
    if (sources_.incomplete() || !is_before(newest(), changes, tracked) || !is_after(newest(), changes, tracked)) {
        put(Question::state);
    } else if (now() - std::max(looked_ns_, confirmed_ns_) >= look_for_news_ns) {
        looked_ns_ = now();
        put(Question::news);
    }
}

bool StateHistory::wants_grace() const {
    if (!sources_.graces || grace_under_way_) {
        return false;
    }
    const auto changes = sources_.changes();
    return !grace_since_ || !all(sources_with_grace, sources_.tracked(), [&](unsigned source) {
        return grace_since_->begin[source] == changes.begin[source] && grace_since_->end[source] == changes.end[source];
    });
}

void StateHistory::grace_begins() {
    grace_since_ = sources_.changes();
    grace_under_way_ = true;
}

void StateHistory::grace_over(std::uint64_t boot_ns) {
    if (!std::exchange(grace_under_way_, false)) {
        return;  // it began before this history did
    }
    known_grace(*grace_since_, boot_ns);
}

void StateHistory::known_grace(const hptrace_changes& since, std::uint64_t over_ns) {
    graces_.push_back({.since = since, .over_ns = over_ns});
    // One from before all that may still have to be judged, and those since.
    while (graces_.size() > 1 && now() > graces_[1].over_ns && now() - graces_[1].over_ns > kept_for_ns) {
        graces_.pop_front();
    }
}

}  // namespace hptrace
