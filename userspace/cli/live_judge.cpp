// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/live_judge.hpp"

#include <algorithm>
#include <utility>

#include "judge/judge.hpp"
#include "names/names.hpp"

namespace hptrace {

namespace {

// More than this is not kept waiting: then the state is read at once.
constexpr std::size_t most_waiting = 8192;

// Can what this state calls `ok` be anything else by now? Not if no HostPort rule led to the new destination: its pod
// had its rules before it became the Service's endpoint, and its address is not given to another pod within the seconds
// that a state may age (CNI plugins give out addresses in turn). ip_vs itself leads nowhere but to its own servers.
bool stays_ok(const Finding& finding, const NodeState& state) {
    const auto& rewritten = finding.connection.rewritten;
    return finding.verdict == Verdict::ok && (finding.connection.mechanism == Mechanism::ip_vs ||
                                              std::ranges::none_of(state.hostports, [&](const HostPortRule& rule) {
                                                  return rule.target.ip == rewritten.ip;
                                              }));
}

// The sandbox that the rule is of and that seems gone; null: none does.
const std::string* stale_sandbox(const Finding& finding) {
    return finding.rule && finding.leftover != LeftOver::no ? &finding.rule->container_id : nullptr;
}

}  // namespace

void LiveJudge::take(Connection connection) {
    waiting_.push_back({std::move(connection), history_.now()});
}

void LiveJudge::judge(const Sink& sink) {
    judge(false, sink);
}

void LiveJudge::finish(const Sink& sink) {
    judge(true, sink);
}

void LiveJudge::judge(bool finish, const Sink& sink) {
    bool fresh = false;  // read just now, that is after everything that waits was decided
    while (!waiting_.empty()) {
        auto [finding, hope] = look(waiting_.front().connection);
        if (hope != Hope::none && !fresh) {
            if (!finish && !history_.may_refresh() && waiting_.size() < most_waiting) {
                return;
            }
            history_.refresh();
            fresh = true;
            continue;
        }
        // That read fell into a change that was under way already: the next one may not.
        if (hope == Hope::neighbour && !finish && !given_up(waiting_.front())) {
            return;
        }
        if (const auto* const sandbox = stale_sandbox(finding); fresh && sandbox != nullptr) {
            known_stale_.insert(*sandbox);
        }
        const auto cluster = cluster_ ? cluster_() : nullptr;
        add_names(finding, *history_.newest().state, cluster.get());
        waiting_.pop_front();
        sink(finding);
    }
    if (!fresh && history_.due()) {
        history_.refresh();
    }
}

LiveJudge::Look LiveJudge::look(const Connection& connection) {
    const auto last = history_.newest();  // reads if nothing was read yet
    auto neighbours = history_.around(connection);
    if (!neighbours.before.state && !neighbours.after.state) {
        // All that was read fell into the change it was made in: no alarm can come of it.
        Look look{judge_between(connection, nullptr, last.state.get(), true)};
        look.finding.state_boot_ns = last.boot_ns;
        look.hope = look.finding.verdict == Verdict::ok ? Hope::none : Hope::neighbour;
        return look;
    }
    const auto& [before, after, changed_between] = neighbours;
    Look look{judge_between(connection, before.state.get(), after.state.get(), changed_between)};
    look.finding.state_boot_ns = after.state ? after.boot_ns : before.boot_ns;
    look.hope = hope(look.finding, neighbours);
    return look;
}

LiveJudge::Hope LiveJudge::hope(const Finding& finding, const StateHistory::Neighbours& neighbours) {
    const auto& connection = finding.connection;
    const auto& before = neighbours.before;
    const auto& after = neighbours.after;
    if (connection.existing) {
        // Rules may have changed between the read of the state and the dump of conntrack: an alarm, and that is what
        // is unsettled by one neighbour alone, needs a state from after the dump to agree.
        return !after.state && finding.verdict == Verdict::unsettled ? Hope::neighbour : Hope::none;
    }
    if (!after.state) {
        return history_.kept_fresh() && stays_ok(finding, *before.state) ? Hope::none : Hope::neighbour;
    }
    // libcni writes its cache after the plugins have made the rules: a sandbox that seems gone may just have come.
    if (const auto* const sandbox = stale_sandbox(finding); sandbox != nullptr && !known_stale_.contains(*sandbox)) {
        return Hope::second_look;
    }
    const bool read_since = after.boot_ns > connection.boot_ns;
    return finding.verdict != Verdict::ok && !read_since && history_.outdated() ? Hope::second_look : Hope::none;
}

bool LiveJudge::given_up(const Waiting& waiting) const {
    return history_.now() - waiting.since >= StateHistory::longest_wait_ns;
}

}  // namespace hptrace
