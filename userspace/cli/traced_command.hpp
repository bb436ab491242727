// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <functional>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "cli/child.hpp"
#include "cli/options.hpp"
#include "state/netns.hpp"

namespace hptrace {

// The command after "--" that is traced while it runs. It is the user's, and so runs where the user is, not where
// --netns took hptrace.
class TracedCommand {
public:
    using Note = std::function<void(std::string_view)>;  // says it

    // `options` must outlive this object. netns: where --netns took the calling thread. inherited: the descriptors that
    // the command gets.
    TracedCommand(const TraceOptions& options, std::optional<NetnsGuard> netns, std::vector<int> inherited, Note note)
        : options_(options), netns_(std::move(netns)), inherited_(std::move(inherited)), note_(std::move(note)) {}

    [[nodiscard]] bool wanted() const { return !options_.command.empty(); }
    [[nodiscard]] bool started() const { return started_; }
    // Error: it cannot be run, or there is no way back to where --netns leads.
    Result<void> start();
    // A child has ended: true if it was the command, and it is said how.
    bool ended();
    // Says that it still runs, if it does.
    void say_if_running() const;

private:
    const TraceOptions& options_;
    std::optional<NetnsGuard> netns_;
    std::vector<int> inherited_;
    Note note_;
    std::optional<Child> child_;  // that runs
    bool started_ = false;
};

}  // namespace hptrace
