// SPDX-License-Identifier: GPL-2.0-or-later
// A node whose state can be read and changed without a kernel.
#pragma once

#include <memory>

#include "cli/state_history.hpp"
#include "judge/node.hpp"

namespace hptrace::test {

struct FakeNode {
    NodeState content = ipvs_node(Backend::iptables_nft);  // what the next read finds
    hptrace_changes changes{};
    std::uint32_t tracked = 7;
    std::uint64_t now = 10'000'000'000;
    bool consistent = true;
    int reads = 0;

    StateHistory history() {
        return StateHistory({.read =
                                 [this] {
                                     ++reads;
                                     auto state = std::make_shared<NodeState>(content);
                                     state->changes = changes;
                                     state->consistent = consistent;
                                     state->boot_ns = now;
                                     state->index();
                                     return state;
                                 },
                             .tracked = [this] { return tracked; },
                             .boot_ns = [this] { return now; }});
    }

    void change(unsigned source) {
        ++changes.begin[source];
        ++changes.end[source];
    }
};

inline Connection made_under(const hptrace_changes& changes) {
    auto made = connection("10.96.0.10:3306", "10.224.0.222:3306");
    made.changes = changes;
    return made;
}

}  // namespace hptrace::test
