// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "cli/traced_namespaces.hpp"

namespace hptrace {

// Has the connections judged that exist already, beside the trace: a piece at a time, so that the trace goes on.
//
// What is made while they are gone through is seen being made, and in conntrack as well: there it does not count. So a
// piece is judged once all decisions from before it have come.
class ExistingRun {
public:
    // What is decided up to then (CLOCK_BOOTTIME) has come.
    using AllCame = std::function<bool(std::uint64_t boot_ns)>;

    // Begins at the first turn(). `existing`: of `namespaces`, which must outlive this object.
    ExistingRun(TracedNamespaces& namespaces, std::shared_ptr<ExistingConnections> existing);

    // Was seen being made.
    void saw(const Connection& live);
    // To be called at every turn of the trace. Returns what cannot be read, once.
    std::optional<std::string> turn(const AllCame& all_came);
    // All have been handed to be judged.
    [[nodiscard]] bool over() const { return came_->last && !came_->piece; }

private:
    // What makes two records the same connection.
    using Key = std::tuple<std::uint32_t, std::uint16_t, Protocol, Endpoint, Endpoint>;
    static Key key_of(const Connection& connection);

    // Filled by a reply that may come when this object is gone.
    struct Came {
        std::optional<ExistingPiece> piece;
        bool last = false;
    };

    void ask();

    TracedNamespaces& namespaces_;
    std::shared_ptr<ExistingConnections> existing_;
    std::shared_ptr<Came> came_ = std::make_shared<Came>();
    std::set<Key> live_;
    bool asked_ = false;
};

// One run after the other: that of the start, and one whenever a module was loaded.
class ExistingRuns {
public:
    // `namespaces` must outlive this object. everywhere: in all of them, not in the calling thread's alone.
    ExistingRuns(TracedNamespaces& namespaces, bool everywhere, Filter filter)
        : namespaces_(namespaces), everywhere_(everywhere), filter_(std::move(filter)) {}

    // Of those that conntrack knows, what `wanted` and the filter take is to be judged, after those before.
    void judge(ExistingConnections::Wanted wanted);
    // See ExistingRun.
    void saw(const Connection& live);
    std::optional<std::string> turn(const ExistingRun::AllCame& all_came);
    // None is to come.
    [[nodiscard]] bool over() const { return runs_.empty(); }

private:
    TracedNamespaces& namespaces_;
    bool everywhere_;
    Filter filter_;
    std::deque<ExistingRun> runs_;
};

}  // namespace hptrace
