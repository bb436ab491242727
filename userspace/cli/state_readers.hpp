// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "capture/filter.hpp"
#include "judge/finding.hpp"
#include "state/reader.hpp"

namespace hptrace {

// A state, and what the filter takes of the conflicts in it: the same object for the same state. They are found by the
// thread that reads, for in a large state that takes its time.
struct Reading {
    StateRead read;
    std::shared_ptr<const FoundConflicts> conflicts;
};

// What reads the states of network namespaces, for a thread of its own: all calls must be made by that thread. It stays
// in the namespace it is in, and enters another one for each reading of that.
class StateReaders {
public:
    // here: inode number of the thread's namespace. node: a process of the node it is the namespace of; none: this
    // process is. host_root: see node_root_of().
    StateReaders(std::uint32_t here, std::optional<pid_t> node, std::filesystem::path host_root,
                 ChangeCounters counters, Filter filter);

    // The state now. See NodeReader::read() and NetnsVisitor::read().
    Reading read(std::uint32_t netns);
    // The same, if nothing was read there yet, or a source has announced a change since, or none can be heard there.
    std::optional<Reading> read_news(std::uint32_t netns);
    // Nothing of that namespace, which is another one, is needed any more.
    void forget(std::uint32_t netns);

private:
    struct Found {
        NodeStatePtr state;
        std::shared_ptr<const FoundConflicts> conflicts;
    };

    StateRead read_state(std::uint32_t netns);

    std::uint32_t here_;
    std::optional<pid_t> node_;
    std::filesystem::path host_root_;
    ChangeCounters counters_;
    Filter filter_;
    std::optional<NodeReader> reader_;  // made by the thread that reads: it listens to that thread's namespace
    std::map<std::uint32_t, NetnsVisitor> visitors_;
    std::map<std::uint32_t, Found> found_;  // of the state that was read last
};

}  // namespace hptrace
