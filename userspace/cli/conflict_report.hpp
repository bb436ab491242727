// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/options.hpp"
#include "cli/trace_outputs.hpp"
#include "cli/traced_netns.hpp"

namespace hptrace {

// Tells what a namespace is like, and which conflicts come and go in it.
class ConflictReport {
public:
    using Note = std::function<void(std::string_view)>;  // says it

    // options, filter and outputs must outlive this object.
    ConflictReport(const TraceOptions& options, const Filter& filter, TraceOutputs& outputs, Note note)
        : options_(options), filter_(filter), outputs_(outputs), note_(std::move(note)) {}

    // Of a namespace whose state has been read.
    void introduce(TracedNetns& netns, ConflictWatch::ToCome to_come);
    // What came or went since the last time, as the state that was read last has it.
    void compare(TracedNetns& netns, ConflictWatch::ToCome to_come);
    void ended(const std::vector<Conflict>& conflicts) { tell(&Output::conflict_ended, conflicts); }

private:
    void tell(void (Output::*what)(const Conflict&), const std::vector<Conflict>& conflicts);

    const TraceOptions& options_;
    const Filter& filter_;
    TraceOutputs& outputs_;
    Note note_;
    std::set<std::uint32_t> given_up_;  // namespaces of which it was said that not all was looked at
};

}  // namespace hptrace
