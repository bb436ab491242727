// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "capture/capture.hpp"
#include "cli/trace_outputs.hpp"
#include "output/output.hpp"

namespace hptrace {

// Tells the outputs of losses, each place once a second at most.
class LossReport {
public:
    // `last`: what was lost since the last time is told at once.
    void tell(const CaptureCounters& counters, TraceOutputs& outputs, bool last);

private:
    std::chrono::steady_clock::time_point told_;
    std::array<Loss, 6> total_{};  // as told
};

}  // namespace hptrace
