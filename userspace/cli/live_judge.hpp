// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <unordered_set>
#include <utility>

#include "cli/state_history.hpp"
#include "judge/finding.hpp"
#include "names/cluster_names.hpp"

namespace hptrace {

// Judges connections in the order they come, reading the node state again where that could change the verdict.
//
// That the counters are ahead of what was read does not ask for a read by itself: kube-proxy changes something all the
// time. A connection to a Service that ended at an endpoint the Service had when last read is fine: if the endpoint was
// removed since, that is no hijack, and no HostPort rule leads there (if the state is kept fresh). Everything else
// waits for a read from after it, in a queue, so that one read serves all that waits, however many come; the order
// stays that of the decisions.
class LiveJudge {
public:
    using Sink = std::function<void(const Finding&)>;

    explicit LiveJudge(StateHistory& history, ClusterNamesSource cluster = {})
        : history_(history), cluster_(std::move(cluster)) {}

    void take(Connection connection);
    // Hands over the verdicts, with names, on what need not wait for another read; to be called at every turn of the
    // trace. Reads the state once at most, and if nothing asks for that, then when it has aged.
    void judge(const Sink& sink);
    // The same for all that was taken, whenever the state was read last.
    void finish(const Sink& sink);
    // Nothing was taken that was not handed over.
    [[nodiscard]] bool idle() const { return waiting_.empty(); }

private:
    struct Waiting {
        Connection connection;
        std::uint64_t since = 0;
    };
    // What another read of the state could still do for a verdict.
    enum class Hope : std::uint8_t { none, second_look, neighbour };
    struct Look {
        Finding finding;
        Hope hope = Hope::none;
    };

    void judge(bool finish, const Sink& sink);
    Look look(const Connection& connection);
    [[nodiscard]] Hope hope(const Finding& finding, const StateHistory::Neighbours& neighbours);
    [[nodiscard]] bool given_up(const Waiting& waiting) const;

    StateHistory& history_;
    ClusterNamesSource cluster_;
    std::deque<Waiting> waiting_;
    std::unordered_set<std::string> known_stale_;  // sandboxes that were looked for twice
};

}  // namespace hptrace
