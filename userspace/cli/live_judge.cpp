// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/live_judge.hpp"

#include <algorithm>
#include <utility>

#include "judge/judge.hpp"
#include "names/names.hpp"

namespace hptrace {

namespace {

// A turn of the trace takes no longer than the ring may wait.
constexpr std::uint64_t slice_ns = 5'000'000;

// What came late, as probes were attached meanwhile, still gets a state if that can be read within this time.
constexpr std::uint64_t shortest_wait_ns = 1'000'000'000;

// What announces nothing is read again for a verdict other than `ok` if it was read longer ago than this.
constexpr std::uint64_t unannounced_ns = 1'000'000'000;

// The sandbox that the rule is of and that seems gone; null: none does.
const std::string* stale_sandbox(const Finding& finding) {
    return finding.rule && finding.leftover != LeftOver::no ? &finding.rule->container_id : nullptr;
}

}  // namespace

void LiveJudge::take(Connection connection) {
    waiting_.push_back({.connection = std::move(connection), .taken_ns = history_.now()});
}

bool LiveJudge::judge(const Sink& sink, Haste haste) {
    const auto begun = history_.now();
    while (!waiting_.empty()) {
        const auto& first = waiting_.front();
        auto [finding, need] = look(first.connection);
        if (need != Need::nothing && haste != Haste::now && !given_up(first)) {
            history_.ask(need == Need::confirmation ? StateHistory::Question::news : StateHistory::Question::state,
                         haste == Haste::none ? StateHistory::Pause::yes : StateHistory::Pause::no);
            return false;
        }
        if (const auto* const sandbox = stale_sandbox(finding)) {
            known_stale_.insert(*sandbox);
        }
        if (!history_.empty()) {
            const auto cluster = cluster_ ? cluster_() : nullptr;
            add_names(finding, *history_.newest().state, cluster.get());
        }
        waiting_.pop_front();
        sink(finding);
        if (history_.now() - begun >= slice_ns) {
            return !waiting_.empty();
        }
    }
    return false;
}

LiveJudge::Look LiveJudge::look(const Connection& connection) const {
    if (history_.empty()) {
        const auto nothing = unread_state(connection.netns, "not read yet");
        return {judge_between(connection, nullptr, nothing.get()), Need::state};
    }
    const auto neighbours = history_.around(connection);
    const auto& [before, after, between, changed_between] = neighbours;
    if (!before.state && !after.state) {
        // All that was read fell into the change it was made in.
        const auto& last = history_.newest();
        Look look{judge_between(connection, last.state.get(), nullptr, true), Need::state};
        look.finding.state_boot_ns = last.boot_ns;
        return look;
    }
    Look look{judge_between(connection, before.state.get(), after.state.get(), changed_between)};
    for (const auto& other : between) {
        auto also = judge_between(connection, other.get(), after.state.get(), changed_between);
        if (also.verdict == Verdict::unsettled) {
            look.finding = std::move(also);
            break;
        }
    }
    look.finding.state_boot_ns = after.state ? after.boot_ns : before.boot_ns;
    look.need = need(look.finding, neighbours);
    return look;
}

LiveJudge::Need LiveJudge::need(const Finding& finding, const StateHistory::Neighbours& neighbours) const {
    const auto& connection = finding.connection;
    const auto& after = neighbours.after;
    if (connection.existing) {
        // Rules may have changed between the read of the state and the dump of conntrack: an alarm, and that is what
        // is unsettled by one neighbour alone, needs a state from after the dump to agree.
        return !after.state && finding.verdict == Verdict::unsettled ? Need::state : Need::nothing;
    }
    if (!after.state) {
        return Need::state;
    }
    if (after.boot_ns > connection.boot_ns) {
        return Need::nothing;
    }
    // libcni writes its cache after the plugins have made the rules: a sandbox that seems gone may just have come.
    if (const auto* const sandbox = stale_sandbox(finding); sandbox != nullptr && !known_stale_.contains(*sandbox)) {
        return Need::state;
    }
    // Announcements were listened to until then. Sources that make none are known as they were read.
    const auto confirmed = history_.confirmed_ns();
    const bool watched = history_.kept_fresh() && after.watched;
    const auto known = watched ? confirmed : after.boot_ns;
    const auto age = connection.boot_ns > known ? connection.boot_ns - known : 0;
    if (finding.verdict == Verdict::ok) {
        if (age < longest_unconfirmed_ns) {
            return Need::nothing;
        }
        return watched ? Need::confirmation : Need::state;
    }
    if (!history_.kept_fresh() || (!watched && age >= unannounced_ns)) {
        return Need::state;
    }
    return confirmed > connection.boot_ns ? Need::nothing : Need::confirmation;
}

bool LiveJudge::given_up(const Waiting& waiting) const {
    const auto& [connection, taken_ns] = waiting;
    if (connection.existing) {  // it can wait for as long as a read takes, but not for one that cannot be had
        return history_.answered_ns() > connection.boot_ns;
    }
    return history_.now() >= std::max(connection.boot_ns + StateHistory::longest_wait_ns, taken_ns + shortest_wait_ns);
}

}  // namespace hptrace
