// SPDX-License-Identifier: GPL-2.0-or-later
// A node whose state can be read and changed without a kernel.
#pragma once

#include <memory>
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
    std::uint64_t now = 10 * second;
    std::uint64_t read_takes = millisecond;
    bool changes_while_read = false;
    int reads = 0;

    StateHistory history() {
        return StateHistory({.read =
                                 [this] {
                                     ++reads;
                                     StateRead read;
                                     read.boot_ns = now;
                                     auto state = std::make_shared<NodeState>(content);
                                     state->boot_ns = now;
                                     state->index();
                                     read.state = std::move(state);
                                     read.changes = changes;
                                     if (changes_while_read) {
                                         change(HPTRACE_SOURCE_XTABLES);
                                     }
                                     read.changes_after = changes;
                                     read.watched = watched;
                                     announced = false;
                                     now += read_takes;
                                     return read;
                                 },
                             .changes = [this] { return changes; },
                             .announced = kept_fresh ? [this] { return announced; } : std::function<bool()>(),
                             .tracked = [this] { return tracked; },
                             .incomplete = [this] { return incomplete; },
                             .boot_ns = [this] { return now; }});
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
};

// What the judge hands over at one turn.
inline std::vector<Finding> turn(LiveJudge& judge) {
    std::vector<Finding> findings;
    judge.judge([&findings](const Finding& finding) { findings.push_back(finding); });
    return findings;
}

inline std::vector<Finding> finish(LiveJudge& judge) {
    std::vector<Finding> findings;
    judge.finish([&findings](const Finding& finding) { findings.push_back(finding); });
    return findings;
}

// The verdict on one connection, without waiting.
inline Finding judged(LiveJudge& judge, const Connection& connection) {
    judge.take(connection);
    auto findings = finish(judge);
    return findings.size() == 1 ? std::move(findings.front()) : Finding{};
}

}  // namespace hptrace::test
