// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/probe_report.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace hptrace {

namespace {

// Does another function of the same subsystem serve the purpose?
bool attached(const Capture& capture, const ProbeStatus& wanted) {
    return std::ranges::any_of(capture.probes(), [&](const ProbeStatus& probe) {
        return probe.subsystem == wanted.subsystem && probe.purpose == wanted.purpose && probe.mode != ProbeMode::none;
    });
}

}  // namespace

bool ProbeReport::say(const Capture& capture, const Note& note) {
    bool complete = true;
    for (const auto& probe : capture.probes()) {
        complete = say(capture, probe, note) && complete;
    }
    if (capture.mode() == ProbeMode::confirm) {
        note("connections whose first packet is dropped are not seen in this probe mode");
    }
    if (!said_of_missed_ && !capture.counts_missed()) {
        said_of_missed_ = true;
        note(
            "this kernel does not count the kprobes it skips (Linux 6.7 does): a connection made while other BPF "
            "programs work on their maps may be missed");
    }
    return complete;
}

bool ProbeReport::say(const Capture& capture, const ProbeStatus& probe, const Note& note) {
    const bool follows_decision = probe.purpose == ProbePurpose::commit || probe.purpose == ProbePurpose::clash;
    if (probe.mode != ProbeMode::none || attached(capture, probe) || follows_decision ||
        !said_.insert({probe.subsystem, probe.present}).second) {
        return true;
    }
    if (probe.purpose == ProbePurpose::change) {
        if (probe.misses_changes()) {
            note(fmt::format("changes of {} are not noticed at once: it is looked at every second ({})",
                             probe.subsystem, probe.why_not_better));
        }
        return true;
    }
    if (!probe.present) {
        note(fmt::format("{} is not loaded: it rewrites nothing now, and is traced once it is", probe.subsystem));
        return true;
    }
    note(fmt::format("{} is not traced: {}", probe.subsystem, probe.why_not_better));
    return false;
}

}  // namespace hptrace
