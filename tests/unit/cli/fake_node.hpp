// SPDX-License-Identifier: GPL-2.0-or-later
// A node whose state can be read and changed without a kernel, and without a thread that reads: what is asked for is
// answered when the test says so.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cli/live_judge.hpp"
#include "cli/state_history.hpp"
#include "judge/node.hpp"

namespace hptrace::test {

constexpr std::uint64_t millisecond = 1'000'000;
constexpr std::uint64_t second = 1'000'000'000;

struct FakeNode {
    NodeState content = ipvs_node(Backend::iptables_nft);  // what the next read finds
    hptrace_changes changes{};
    std::uint32_t tracked = 7;
    bool incomplete = false;
    bool watched = true;
    bool announced = false;  // until it is read
    bool kept_fresh = true;
    bool graces = false;
    std::uint64_t now = 10 * second;
    std::uint64_t read_takes = millisecond;
    bool changes_while_read = false;
    int reads = 0;
    int looks = 0;  // for what was announced
    std::optional<StateHistory::Question> asked;
    ClusterNamesSource cluster{};

    StateHistory& history() {
        if (!history_) {
            history_.emplace(StateHistory::Sources{
                .ask = [this](StateHistory::Question question) { asked = question; },
                .changes = [this] { return changes; },
                .tracked = [this] { return tracked; },
                .incomplete = [this] { return incomplete; },
                .boot_ns = [this] { return now; },
                .kept_fresh = kept_fresh,
                .graces = graces,
            });
        }
        return *history_;
    }

    // What judges by it.
    LiveJudge& judge() {
        if (!judge_) {
            judge_.emplace(history(), cluster);
        }
        return *judge_;
    }

    // What a reading that begins now finds.
    StateRead begin_read() {
        ++reads;
        StateRead read;
        read.boot_ns = now;
        auto state = std::make_shared<NodeState>(content);
        state->boot_ns = now;
        state->index();
        read.state = std::move(state);
        read.changes = changes;
        read.watched = watched;
        read.took_ns = read_takes;
        announced = false;
        return read;
    }
    // It takes its time and is over.
    const StateRead& read() {
        auto read = begin_read();
        if (changes_while_read) {
            change(HPTRACE_SOURCE_XTABLES);
        }
        read.changes_after = changes;
        now += read_takes;
        asked.reset();
        history().add(std::move(read));
        return history().newest();
    }
    // The thread that reads has done what it was asked to do; false: that was nothing.
    bool answer() {
        const auto question = std::exchange(asked, std::nullopt);
        if (question == StateHistory::Question::news && !announced) {
            ++looks;
            history().nothing_new(now);
        } else if (question) {
            read();
        }
        return question.has_value();
    }

    // Would the state be read now, though nothing asks for it?
    bool due() {
        history().keep_fresh();
        if (asked == StateHistory::Question::news && !announced) {
            answer();
        }
        return asked.has_value();
    }

    void change(unsigned source) {
        ++changes.begin[source];
        ++changes.end[source];
    }

    // A connection made now, as if it were taken by the HostPort rule.
    Connection taken() {
        auto made = connection("10.96.0.10:3306", "10.224.0.222:3306");
        made.changes = changes;
        made.boot_ns = now++;
        return made;
    }
    // One that ip_vs led to the Service's endpoint.
    Connection served() {
        auto made = connection("10.96.0.10:3306", "10.224.0.224:3306");
        made.mechanism = Mechanism::ip_vs;
        made.changes = changes;
        made.boot_ns = now++;
        return made;
    }

private:
    std::optional<StateHistory> history_;
    std::optional<LiveJudge> judge_;
};

// What the judge hands over at a few turns, until what it asks for comes no sooner than the next time.
inline std::vector<Finding> turn(FakeNode& node, LiveJudge::Haste haste = LiveJudge::Haste::none) {
    std::vector<Finding> findings;
    const auto keep = [&findings](const Finding& finding) { findings.push_back(finding); };
    constexpr int turns = 4;
    for (int i = 0; i < turns; ++i) {
        while (node.judge().judge(keep, haste)) {
        }
        if (!node.answer()) {
            break;
        }
    }
    while (node.judge().judge(keep, haste)) {
    }
    return findings;
}

// The same for the last time.
inline std::vector<Finding> finish(FakeNode& node) {
    auto findings = turn(node, LiveJudge::Haste::soon);
    auto rest = turn(node, LiveJudge::Haste::now);
    findings.insert(findings.end(), rest.begin(), rest.end());
    return findings;
}

// The verdict on one connection, without waiting.
inline Finding judged(FakeNode& node, const Connection& connection) {
    node.judge().take(connection);
    auto findings = finish(node);
    return findings.size() == 1 ? std::move(findings.front()) : Finding{};
}

}  // namespace hptrace::test
