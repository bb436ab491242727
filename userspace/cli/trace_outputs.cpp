// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/trace_outputs.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "cli/run.hpp"
#include "output/journal.hpp"

namespace hptrace {

namespace {

using namespace std::chrono_literals;

// What an earlier run reported, if the service manager gives hptrace a place to keep that (StateDirectory=).
Reported open_reported() {
    const auto* const folder = std::getenv("STATE_DIRECTORY");
    if (folder == nullptr) {
        return {};
    }
    auto reported = Reported::open(std::filesystem::path(folder) / "reported");
    if (!reported) {
        note(fmt::format("what was reported before is not known: {}", describe(reported.error())));
        return {};
    }
    return *std::move(reported);
}

}  // namespace

TraceOutputs::TraceOutputs(const TraceOptions& options, const NodeState& state, const MetricsServer* metrics,
                           QueuedWriter& out)
    : writer_(out) {
    if (options.json) {
        outputs_.push_back(make_json_output(
            writer_, {.node = state.node, .version = HPTRACE_VERSION, .netns = options.all_netns ? 0 : state.netns}));
    } else if (!options.journald) {
        const bool colour = ::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
        outputs_.push_back(make_text_output(writer_, {.colour = colour, .netns = state.netns}));
    }
    if (options.journald) {
        outputs_.push_back(
            make_journal_output(journal_, open_reported(), {.repeat = options.repeat, .netns = state.netns}));
    }
    if (metrics != nullptr) {
        outputs_.push_back(make_metrics_output(metrics->registry(), HPTRACE_VERSION, metrics->heartbeat()));
    }
}

std::string TraceOutputs::end(std::chrono::milliseconds longest) {
    const auto limit = std::chrono::steady_clock::now() + longest;
    for (journal_.flush(); journal_.waiting() > 0 && std::chrono::steady_clock::now() < limit; journal_.flush()) {
        std::this_thread::sleep_for(20ms);
    }
    const auto missing = journal_.waiting() + journal_.dropped();
    return missing > 0 ? describe({fmt::format("journald did not take {} entries", missing), journal_.problem(), {}})
                       : std::string();
}

}  // namespace hptrace
