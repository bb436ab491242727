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

    // `now`: what find_conflicts() finds, with names. Those that are harmless or that the Service wins count as not
    // there; one whose winner is another than before appears again. `complete`: everything was read; else none ends.
    // `read_ns`: when that was read. libcni writes its cache after the plugins have made the rules: a rule whose
    // sandbox is not known yet appears once it is, or when it still is not after longest_wait_ns; 0: at once.
    Changes update(const std::vector<Conflict>& now, bool complete, std::uint64_t read_ns);
    // The namespace is gone, and with it those that were reported.
    std::vector<Conflict> end();
    // One waits for its sandbox: the state is to be read again.
    [[nodiscard]] bool waiting() const { return !nameless_.empty(); }

    static constexpr std::uint64_t longest_wait_ns = 15'000'000'000;

private:
    [[nodiscard]] bool must_wait(const Conflict& conflict, std::uint64_t read_ns);

    std::map<std::string, Conflict> known_;          // by conflict_id
    std::map<std::string, std::uint64_t> nameless_;  // by conflict_id: when it was first seen
};

}  // namespace hptrace
