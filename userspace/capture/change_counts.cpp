// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/change_counts.hpp"

#include <utility>

namespace hptrace {

ChangeCounts::ChangeCounts(std::function<hptrace_changes(std::uint32_t)> read,
                           std::function<std::chrono::nanoseconds()> clock)
    : read_(std::move(read)), clock_(std::move(clock)) {}

ChangeCounts::Slot& ChangeCounts::slot_of(std::uint32_t netns) {
    return slots_.try_emplace(hptrace_change_slot(netns), Slot{.netns = netns}).first->second;
}

// Under the lock, so that a balance sees counters and clock only grow.
hptrace_changes ChangeCounts::look(Slot& slot) {
    const auto raw = read_(slot.netns);
    return slot.balance.observe(raw, clock_());
}

hptrace_changes ChangeCounts::now(std::uint32_t netns) {
    const std::lock_guard lock(mutex_);
    return look(slot_of(netns));
}

hptrace_changes ChangeCounts::repaired(std::uint32_t netns, const hptrace_changes& raw) {
    const std::lock_guard lock(mutex_);
    return slot_of(netns).balance.apply(raw);
}

void ChangeCounts::look() {
    const std::lock_guard lock(mutex_);
    for (auto& [number, slot] : slots_) {
        look(slot);
    }
}

}  // namespace hptrace
