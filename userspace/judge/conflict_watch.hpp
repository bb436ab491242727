// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "judge/finding.hpp"

namespace hptrace {

// The conflicts of one namespace that were reported and have not ended. Linear in them.
class ConflictWatch {
public:
    struct Changes {
        std::vector<Conflict> appeared;  // in the order given
        std::vector<Conflict> ended;
    };

    // Names that may only come after the rule was seen.
    struct ToCome {
        bool pod = false;      // libcni writes its cache after the plugins have made the rules
        bool service = false;  // the Kubernetes API has not been listed yet
    };

    // `now`: what find_conflicts() finds in `state`, with names. Those that are harmless or that the Service wins count
    // as not there; one whose winner is another than before appears again. One ends unless what could not be read may
    // hide it, or there are more than were looked for; of those it knows most_conflicts at most. `read_ns`: when that
    // was read. One without a name that is to come appears once it has that, or when it still has not some seconds
    // later. What is to come of the rule's pod is what was when it was first seen.
    Changes update(const FoundConflicts& now, const NodeState& state, std::uint64_t read_ns, ToCome to_come);
    // The namespace is gone, and with it those that were reported.
    std::vector<Conflict> end();
    // One waits for a name: the state is to be read again.
    [[nodiscard]] bool waiting() const { return !nameless_.empty(); }

    static constexpr std::uint64_t longest_wait_for_pod_ns = 15'000'000'000;
    static constexpr std::uint64_t longest_wait_for_service_ns = 5'000'000'000;

private:
    struct Nameless {
        std::uint64_t since_ns = 0;
        bool pod_to_come = false;
    };

    [[nodiscard]] bool must_wait(const Conflict& conflict, std::uint64_t read_ns, ToCome to_come);

    std::map<std::string, Conflict> known_;     // by conflict_id
    std::map<std::string, Nameless> nameless_;  // by conflict_id: those that wait
};

}  // namespace hptrace
