// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "hptrace/record.h"

namespace hptrace {

// Repairs change counters of which the kernel missed a begin or an end (a probe that fires while another one runs on
// the same CPU is skipped). Unrepaired, a missed end would look like a change that never finishes.
class ChangeBalance {
public:
    // A change that takes longer than this has not lost its end: no rule set takes as long to be replaced.
    static constexpr std::chrono::seconds patience{10};
    // The counters must be looked at at least this often for a lag to count as lasting.
    static constexpr std::chrono::seconds longest_gap{1};

    // `raw`: the counters now, ends read before begins. `now`: any steady clock. Returns them repaired.
    hptrace_changes observe(const hptrace_changes& raw, std::chrono::nanoseconds now);

    // Counters copied at some other time, repaired by what is known so far.
    [[nodiscard]] hptrace_changes apply(hptrace_changes raw) const;

private:
    struct Source {
        std::uint32_t lost_begins = 0;
        std::uint32_t lost_ends = 0;
        std::uint32_t smallest_lag = 0;  // since `lagging_since`
        std::chrono::nanoseconds lagging_since{};
        bool lagging = false;
    };

    std::array<Source, HPTRACE_SOURCES> sources_{};
    std::chrono::nanoseconds last_{};
};

}  // namespace hptrace
