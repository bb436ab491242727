// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/conflict_report.hpp"

#include <algorithm>

#include "cli/overview.hpp"
#include "names/names.hpp"

namespace hptrace {

void ConflictReport::introduce(TracedNetns& netns, ConflictWatch::ToCome to_come) {
    const auto& state = *netns.history().newest().state;
    outputs_.tell(&Output::begin, overview(state, filter_, netns.found_conflicts().doubts));
    std::ranges::for_each(not_understood(state), note_);
    static_cast<void>(netns.news());
    compare(netns, to_come);
}

void ConflictReport::compare(TracedNetns& netns, ConflictWatch::ToCome to_come) {
    const auto& read = netns.history().newest();
    auto found = netns.found_conflicts();
    const auto cluster = netns.cluster();
    for (auto& conflict : found.conflicts) {
        add_names(conflict, *read.state, cluster.get());
    }
    if (found.given_up && given_up_.insert(read.state->netns).second) {
        note_(found.doubts.back());
    }
    const auto [appeared, ended] = netns.conflicts().update(found, *read.state, read.boot_ns, to_come);
    tell(&Output::conflict, appeared);
    tell(&Output::conflict_ended, ended);
}

void ConflictReport::tell(void (Output::*what)(const Conflict&), const std::vector<Conflict>& conflicts) {
    for (const auto& conflict : conflicts) {
        if (!options_.accepted.covers(conflict)) {
            outputs_.tell(what, conflict);
        }
    }
}

}  // namespace hptrace
