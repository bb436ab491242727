// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>

#include "cli/options.hpp"
#include "cli/trace_outputs.hpp"
#include "judge/finding.hpp"

namespace hptrace {

// Counts verdicts, and shows what the options want to be shown.
class VerdictReport {
public:
    // Both must outlive this object.
    VerdictReport(const TraceOptions& options, TraceOutputs& outputs) : options_(options), outputs_(outputs) {}

    void show(const Finding& finding);

    [[nodiscard]] const std::array<std::uint64_t, verdict_count>& counts() const { return counts_; }
    [[nodiscard]] std::uint64_t count(Verdict verdict) const { return counts_.at(static_cast<std::size_t>(verdict)); }
    // An alarm was seen that is not accepted (--ignore).
    [[nodiscard]] bool alarmed() const { return alarmed_; }
    // Alarms that are.
    [[nodiscard]] std::uint64_t suppressed() const { return suppressed_; }
    [[nodiscard]] std::uint64_t shown() const { return shown_; }

private:
    const TraceOptions& options_;
    TraceOutputs& outputs_;
    std::array<std::uint64_t, verdict_count> counts_{};
    bool alarmed_ = false;
    std::uint64_t suppressed_ = 0;
    std::uint64_t shown_ = 0;
};

}  // namespace hptrace
