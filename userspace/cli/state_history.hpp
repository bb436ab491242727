// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <deque>
#include <functional>

#include "capture/connection.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// The last few reads of the node state, found by the change counters they were read under.
class StateHistory {
public:
    struct Sources {
        std::function<NodeStatePtr()> read;
        std::function<std::uint32_t()> tracked;  // bit per enum hptrace_source: its counters can be relied on
        std::function<std::uint64_t()> boot_ns;  // CLOCK_BOOTTIME now
    };

    // The states around a connection. Equal: the one it was made under. Null: none was read there.
    struct Neighbours {
        NodeStatePtr before;
        NodeStatePtr after;
    };

    explicit StateHistory(Sources sources) : sources_(std::move(sources)) {}

    // Reads the state now and forgets the oldest.
    NodeStatePtr refresh();
    // The last read; reads if there was none.
    NodeStatePtr newest();
    // Reads the state if the connection was made under a newer one than the newest read.
    Neighbours around(const Connection& connection);
    // Are the changes of every source counted? Otherwise a state can be out of date without anyone noticing.
    [[nodiscard]] bool all_tracked() const;
    // Nanoseconds since the newest read began.
    [[nodiscard]] std::uint64_t age() const;

private:
    [[nodiscard]] Neighbours find(const hptrace_changes& changes) const;

    static constexpr std::size_t kept = 4;
    Sources sources_;
    std::deque<NodeStatePtr> states_;  // oldest first
};

}  // namespace hptrace
