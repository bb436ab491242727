// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>

#include "capture/capture.hpp"
#include "cli/trace_outputs.hpp"
#include "output/output.hpp"

namespace hptrace {

// Tells the outputs of losses, each place once a second at most.
class LossReport {
public:
    // `last`: what was lost since the last time is told at once.
    // unjudged: connections for which there was no room among those that wait to be judged, since the start.
    // ask: called only when they are told.
    void tell(const std::function<CaptureCounters()>& ask, std::uint64_t unjudged, TraceOutputs& outputs, bool last);

private:
    std::chrono::steady_clock::time_point told_;
    std::array<Loss, places_of_loss.size()> total_{};  // as told
};

}  // namespace hptrace
