// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>
#include <unordered_set>

#include "cli/state_history.hpp"
#include "judge/finding.hpp"

namespace hptrace {

// Judges connections as they come, reading the node state again where that could change the verdict.
class LiveJudge {
public:
    explicit LiveJudge(StateHistory& history) : history_(history) {}

    // The verdict, with names.
    Finding judge(const Connection& connection);

private:
    Finding judge_new(const Connection& connection);
    Finding judge_existing(const Connection& connection);
    bool worth_another_look(const Finding& finding);

    StateHistory& history_;
    std::unordered_set<std::string> known_stale_;  // sandboxes that were looked for twice
};

}  // namespace hptrace
