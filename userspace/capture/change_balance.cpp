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
    const bool gap = now - last_ > longest_gap;
    last_ = now;
    const auto known = apply(raw);
    for (std::size_t i = 0; i < sources_.size(); ++i) {
        auto& source = sources_[i];
        const auto lag = known.begin[i] - known.end[i];  // counters wrap
        if (static_cast<std::int32_t>(lag) <= 0) {
            // Ends were read first, so more of them than begins is a missed begin for certain. It is added to the
            // begins, not taken from the ends: the counters must differ from what they were before that change.
            source.lost_begins -= lag;
            source.lagging = false;
            continue;
        }
        if (!source.lagging || gap) {
            source.lagging = true;
            source.lagging_since = now;
            source.smallest_lag = lag;
        }
        source.smallest_lag = std::min(source.smallest_lag, lag);
        if (now - source.lagging_since >= patience) {
            source.lost_ends += source.smallest_lag;
            source.lagging = false;
        }
    }
    return apply(raw);
}

}  // namespace hptrace
