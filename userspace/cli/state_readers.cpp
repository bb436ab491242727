// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/state_readers.hpp"

#include <utility>

#include "judge/judge.hpp"
#include "state/sources.hpp"

namespace hptrace {

StateReaders::StateReaders(std::uint32_t here, std::optional<pid_t> node, std::filesystem::path host_root,
                           ChangeCounters counters, Filter filter)
    : here_(here),
      node_(node),
      host_root_(std::move(host_root)),
      counters_(std::move(counters)),
      filter_(std::move(filter)) {}

StateRead StateReaders::read_state(std::uint32_t netns) {
    if (netns != here_) {
        return visitors_.try_emplace(netns, netns, host_root_, counters_).first->second.read();
    }
    if (!reader_) {
        reader_.emplace(native_sources(PodFolders::below(node_root_of(node_, host_root_))), counters_);
    }
    return reader_->read();
}

Reading StateReaders::read(std::uint32_t netns) {
    auto read = read_state(netns);
    auto& [state, conflicts] = found_[netns];
    if (state != read.state) {
        state = read.state;
        conflicts = std::make_shared<const FoundConflicts>(find_conflicts(*state, filter_));
    }
    return {.read = std::move(read), .conflicts = conflicts};
}

std::optional<Reading> StateReaders::read_news(std::uint32_t netns) {
    if (netns == here_ && reader_ && !reader_->announced()) {
        return std::nullopt;
    }
    return read(netns);
}

void StateReaders::forget(std::uint32_t netns) {
    visitors_.erase(netns);
    found_.erase(netns);
}

}  // namespace hptrace
