// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/options.hpp"
#include "output/journal_socket.hpp"
#include "output/metrics.hpp"
#include "output/output.hpp"
#include "output/queued_writer.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// Where a trace is shown: on stdout, in the journal, as metrics.
class TraceOutputs {
public:
    // state: of the namespace hptrace is in. metrics: null if there are none. out: stdout's.
    TraceOutputs(const TraceOptions& options, const NodeState& state, const MetricsServer* metrics, QueuedWriter& out);

    // `what` of each output.
    template <class... Parameters, class... Arguments>
    void tell(void (Output::*what)(Parameters...), const Arguments&... arguments) {
        for (const auto& output : outputs_) {
            std::invoke(what, *output, arguments...);
        }
    }
    // What journald has not taken yet gets a last chance. Returns what it missed, in words; empty: nothing.
    [[nodiscard]] std::string end(std::chrono::milliseconds longest);

    // stdout's.
    [[nodiscard]] QueuedWriter& writer() { return writer_; }
    [[nodiscard]] const QueuedWriter& writer() const { return writer_; }
    // Entries that journald did not take, for good.
    [[nodiscard]] std::uint64_t missing_entries() const { return journal_.dropped(); }

private:
    QueuedWriter& writer_;
    JournalSocket journal_;
    std::vector<std::unique_ptr<Output>> outputs_;
};

}  // namespace hptrace
