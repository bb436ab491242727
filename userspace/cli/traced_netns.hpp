// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "cli/live_judge.hpp"
#include "cli/state_history.hpp"
#include "cli/state_readers.hpp"
#include "judge/conflict_watch.hpp"
#include "names/cluster_names.hpp"

namespace hptrace {

// One network namespace whose connections are traced: its state, as it is read again and again, and what judges by it.
class TracedNetns {
public:
    explicit TracedNetns(StateHistory::Sources sources, ClusterNamesSource cluster)
        : cluster_(std::move(cluster)),
          history_(std::move(sources)),
          judge_(history_, cluster_),
          existing_(history_, cluster_) {}

    [[nodiscard]] StateHistory& history() { return history_; }
    [[nodiscard]] const StateHistory& history() const { return history_; }
    // Of connections as they are made, and of those that exist already.
    [[nodiscard]] LiveJudge& judge() { return judge_; }
    [[nodiscard]] LiveJudge& existing() { return existing_; }

    // What was read of it. If it cannot be entered any more, what was read before counts on.
    void add(Reading reading);
    // Its state was read, and nothing waits to be judged by the next read.
    [[nodiscard]] bool idle() const { return judge_.idle() && existing_.idle() && !history_.empty(); }
    // It could not be entered when it was last tried.
    [[nodiscard]] bool refused() const { return refused_; }
    // True the first time: it is to be told what this namespace is like.
    [[nodiscard]] bool introduce() { return !std::exchange(introduced_, true); }
    [[nodiscard]] bool introduced() const { return introduced_; }

    // Is what was read last to be compared with the conflicts that are known: is it another state than the last time
    // this was true, or a later reading while a conflict waits for a name?
    [[nodiscard]] bool news();
    // What the filter takes of the conflicts in the state that was read last, without names.
    [[nodiscard]] const FoundConflicts& found_conflicts() const { return *found_; }
    [[nodiscard]] ClusterNamesPtr cluster() const { return cluster_ ? cluster_() : nullptr; }
    [[nodiscard]] ConflictWatch& conflicts() { return conflicts_; }

private:
    ClusterNamesSource cluster_;
    StateHistory history_;
    LiveJudge judge_;
    LiveJudge existing_;
    std::shared_ptr<const FoundConflicts> found_;
    ConflictWatch conflicts_;
    NodeStatePtr told_;
    std::uint64_t told_ns_ = 0;  // when that was read
    bool introduced_ = false;
    bool refused_ = false;
};

}  // namespace hptrace
