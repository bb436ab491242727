// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/change_balance.hpp"

#include <algorithm>
#include <cstddef>

namespace hptrace {

hptrace_changes ChangeBalance::apply(hptrace_changes raw) const {
    for (std::size_t i = 0; i < sources_.size(); ++i) {
        raw.begin[i] += sources_[i].lost_begins;
        raw.end[i] += sources_[i].lost_ends;
    }
    return raw;
}

hptrace_changes ChangeBalance::observe(const hptrace_changes& raw, std::chrono::nanoseconds now) {
    const auto passed = now - last_;
    last_ = now;
    const auto known = apply(raw);
    for (std::size_t i = 0; i < sources_.size(); ++i) {
        auto& source = sources_[i];
        const bool moved = source.begin != raw.begin[i] || source.end != raw.end[i];
        source.begin = raw.begin[i];
        source.end = raw.end[i];
        const auto lag = known.begin[i] - known.end[i];  // counters wrap
        if (static_cast<std::int32_t>(lag) <= 0) {
            // Ends were read first, so more of them than begins is a missed begin for certain. It is added to the
            // begins, not taken from the ends: the counters must differ from what they were before that change.
            source.lost_begins -= lag;
            source.lag = 0;
            continue;
        }
        if (source.lag == 0) {
            source.lag = lag;
            source.lasted = {};
            continue;
        }
        source.lag = std::min(source.lag, lag);
        source.lasted += moved ? std::min<std::chrono::nanoseconds>(passed, longest_guess) : passed;
        if (source.lasted >= patience) {
            source.lost_ends += source.lag;
            source.lag = 0;
        }
    }
    return apply(raw);
}

}  // namespace hptrace
