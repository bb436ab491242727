// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/traced_netns.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>

namespace hptrace {

void TracedNetns::add(Reading reading) {
    refused_ = reading.read.state->sources.contains(std::string(netns_source));
    if (refused_ && !history_.empty()) {
        history_.unreadable();
        return;
    }
    found_ = std::move(reading.conflicts);
    constexpr auto nothing_waits = std::numeric_limits<std::uint64_t>::max();
    history_.add(std::move(reading.read),
                 std::min(judge_.oldest().value_or(nothing_waits), existing_.oldest().value_or(nothing_waits)));
}

bool TracedNetns::news() {
    if (history_.empty()) {
        return false;
    }
    const auto& read = history_.newest();
    // Only a state as it was at one moment: half of a change looks like a conflict, or like the end of one.
    if (!read.consistent() || (read.state == told_ && !(conflicts_.waiting() && read.boot_ns > told_ns_))) {
        return false;
    }
    told_ = read.state;
    told_ns_ = read.boot_ns;
    return true;
}

}  // namespace hptrace
