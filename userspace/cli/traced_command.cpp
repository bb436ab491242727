// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/traced_command.hpp"

#include <fmt/format.h>

namespace hptrace {

Result<void> TracedCommand::start() {
    started_ = true;
    const bool moved = netns_.has_value();
    netns_.reset();
    auto child = Child::start(options_.command, inherited_);
    if (!child) {
        return std::unexpected(child.error());
    }
    child_ = *child;
    if (moved) {
        auto back = NetnsGuard::enter(options_.netns);
        if (!back) {
            return std::unexpected(back.error());
        }
        netns_.emplace(*std::move(back));
    }
    return {};
}

bool TracedCommand::ended() {
    const auto how = child_ ? child_->ended() : std::nullopt;
    if (!how) {
        return false;
    }
    note_(fmt::format("{} {}", options_.command.front(), *how));
    child_.reset();
    return true;
}

void TracedCommand::say_if_running() const {
    if (child_) {
        note_(fmt::format("{} (process {}) is still running", options_.command.front(), child_->pid()));
    }
}

}  // namespace hptrace
