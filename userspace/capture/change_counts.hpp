// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_map>

#include "capture/change_balance.hpp"
#include "hptrace/record.h"

namespace hptrace {

// The change counters of network namespaces, repaired (ChangeBalance): each slot (hptrace_change_slot()) has a balance
// of its own, so that what a record carries is comparable with what is asked for at another time. May be used by
// several threads at once.
class ChangeCounts {
public:
    // read: the counters of a namespace as the kernel has them now. clock: any steady clock.
    ChangeCounts(std::function<hptrace_changes(std::uint32_t)> read, std::function<std::chrono::nanoseconds()> clock);

    // As of now, of the namespace with that inode number.
    hptrace_changes now(std::uint32_t netns);
    // Those that a record of that namespace carries.
    hptrace_changes repaired(std::uint32_t netns, const hptrace_changes& raw);
    // Looks at all that was asked for so far: the more often, the sooner a missed end is found out.
    void look();

private:
    struct Slot {
        std::uint32_t netns = 0;  // any namespace of the slot
        ChangeBalance balance{};
    };

    Slot& slot_of(std::uint32_t netns);
    hptrace_changes look(Slot& slot);

    std::function<hptrace_changes(std::uint32_t)> read_;
    std::function<std::chrono::nanoseconds()> clock_;
    std::mutex mutex_;
    std::unordered_map<std::uint32_t, Slot> slots_;  // at most HPTRACE_CHANGE_SLOTS
};

}  // namespace hptrace
