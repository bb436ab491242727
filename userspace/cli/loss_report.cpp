// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/loss_report.hpp"

namespace hptrace {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;
constexpr std::chrono::seconds interval{1};

}  // namespace

void LossReport::tell(const std::function<CaptureCounters()>& ask, std::uint64_t unjudged, TraceOutputs& outputs,
                      bool last) {
    const auto now = Clock::now();
    if (!last && now - told_ < interval) {
        return;
    }
    told_ = now;
    const auto counters = ask();
    // While nobody reads, this line would be the next one to be lost.
    const auto lines = last || outputs.writer().wait_for_room(0ms) ? outputs.writer().lost() : total_.back().count;
    const std::array<Loss, places_of_loss.size()> total{
        {{"ring_buffer", counters.lost_ring},
         {"unjudged", unjudged},
         {"pending", counters.lost_pending},
         {"missed_probes", counters.missed_probes},
         {"commit", counters.lost_commit},        // the connection itself is shown
         {"repeats", counters.forgotten},         // and so it is, perhaps twice
         {"journal", outputs.missing_entries()},  // and so it is counted
         {"output", lines}}};
    for (std::size_t i = 0; i < total.size(); ++i) {
        if (total.at(i).count > total_.at(i).count) {
            outputs.tell(&Output::lost, Loss{total.at(i).where, total.at(i).count - total_.at(i).count});
        }
    }
    total_ = total;
}

}  // namespace hptrace
