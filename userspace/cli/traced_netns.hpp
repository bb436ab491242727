// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/live_judge.hpp"
#include "cli/state_history.hpp"
#include "judge/conflict_watch.hpp"
#include "names/cluster_names.hpp"
#include "state/reader.hpp"

namespace hptrace {

// One network namespace whose connections are traced: its state, read again and again, and what judges by it.
class TracedNetns {
public:
    // Gets to see everything that is read.
    using OnRead = std::function<void(const NodeState&)>;

    // The one the calling thread is in. All calls must be made by a thread that is in it.
    static std::unique_ptr<TracedNetns> here(const NodeRoot& node_root, const ChangeCounters& counters,
                                             OnRead on_read, ClusterNamesSource cluster);
    // Another one. Its state is read only when a connection made in it needs that. It may be of another cluster: the
    // Kubernetes API names nothing in it.
    static std::unique_ptr<TracedNetns> elsewhere(std::uint32_t inode, const std::filesystem::path& host_root,
                                                  const ChangeCounters& counters, OnRead on_read);

    [[nodiscard]] StateHistory& history() { return history_; }
    [[nodiscard]] LiveJudge& judge() { return judge_; }
    // Its state was read, and nothing waits to be judged by the next read.
    [[nodiscard]] bool idle() const { return judge_.idle() && !history_.empty(); }
    // It could not be entered when it was last tried.
    [[nodiscard]] bool refused() const;
    // True the first time: it is to be told what this namespace is like.
    [[nodiscard]] bool introduce() { return !std::exchange(introduced_, true); }
    [[nodiscard]] bool introduced() const { return introduced_; }
    // The state that was read last, if it is another one than the last time this was asked; else null.
    [[nodiscard]] NodeStatePtr news();
    [[nodiscard]] ClusterNamesPtr cluster() const { return cluster_ ? cluster_() : nullptr; }
    [[nodiscard]] ConflictWatch& conflicts() { return conflicts_; }

private:
    explicit TracedNetns(StateHistory::Sources sources, ClusterNamesSource cluster = {})
        : cluster_(std::move(cluster)), history_(std::move(sources)), judge_(history_, cluster_) {}

    ClusterNamesSource cluster_;
    StateHistory history_;
    LiveJudge judge_;
    ConflictWatch conflicts_;
    NodeStatePtr told_;
    bool introduced_ = false;
};

// The namespace hptrace is in, and any other one that a connection is made in.
class TracedNamespaces {
public:
    // node: a process of the node the calling thread is in; none: this process is. host_root: see node_root_of().
    TracedNamespaces(std::optional<pid_t> node, std::filesystem::path host_root, ChangeCounters counters,
                     TracedNetns::OnRead on_read, ClusterNamesSource cluster);

    [[nodiscard]] TracedNetns& here() { return *here_; }
    [[nodiscard]] TracedNetns& of(std::uint32_t inode);
    // LiveJudge's, of each of them; the order of decisions is kept within a namespace.
    void judge(const LiveJudge::Sink& sink);
    void finish(const LiveJudge::Sink& sink);
    void each(const std::function<void(TracedNetns&)>& visit);
    // Forgets those that are gone: their inode number can be another's from then on. Returns their conflicts. That one
    // is gone shows when it cannot be entered, else within half a minute (see list_netns() for what that costs).
    std::vector<Conflict> forget_gone();

    // What is not read of those that were: sources, with why, and the number of rules.
    struct Unread {
        std::vector<std::string> sources;
        std::size_t rules = 0;
    };
    [[nodiscard]] Unread unread();

private:
    std::filesystem::path host_root_;
    ChangeCounters counters_;
    TracedNetns::OnRead on_read_;
    std::uint32_t inode_;
    std::unique_ptr<TracedNetns> here_;
    std::map<std::uint32_t, std::unique_ptr<TracedNetns>> elsewhere_;  // by inode number
    std::size_t unjudged_ = 0;      // of them that were gone before something could be judged
    std::uint64_t looked_for_ = 0;  // CLOCK_BOOTTIME when all were listed last
};

}  // namespace hptrace
