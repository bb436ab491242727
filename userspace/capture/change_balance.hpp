// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "hptrace/record.h"

namespace hptrace {

// Repairs change counters of which the kernel missed a begin or an end (a probe that fires while another one runs on
// the same CPU is skipped). Unrepaired, a missed end would look like a change that never finishes.
//
// An end was missed if more changes are under way than end for longer than any change takes. That is known for the time
// between two looks at the same counters: nothing happened in it. If the counters moved meanwhile, changes may have
// ended and others begun, so that such a look counts for little however long ago the one before it was: it takes many
// of them that all find a change under way. How often one looks decides only how soon that is.
class ChangeBalance {
public:
    // A change that takes longer than this has lost its end: no rule set takes as long to be replaced.
    static constexpr std::chrono::seconds patience{10};
    // What a look at counters that moved counts for at most.
    static constexpr std::chrono::seconds longest_guess{1};

    // `raw`: the counters now, ends read before begins. `now`: any steady clock. Returns them repaired.
    hptrace_changes observe(const hptrace_changes& raw, std::chrono::nanoseconds now);

    // Counters copied at some other time, repaired by what is known so far.
    [[nodiscard]] hptrace_changes apply(hptrace_changes raw) const;

private:
    struct Source {
        std::uint32_t lost_begins = 0;
        std::uint32_t lost_ends = 0;
        // At the last look, as the kernel counted.
        std::uint32_t begin = 0;
        std::uint32_t end = 0;
        // Changes that seem to be under way all the time; 0: there was none at the last look.
        std::uint32_t lag = 0;
        std::chrono::nanoseconds lasted{};  // for how long, as far as that is known
    };

    std::array<Source, HPTRACE_SOURCES> sources_{};
    std::chrono::nanoseconds last_{};
};

}  // namespace hptrace
