// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "capture/connection.hpp"
#include "cli/state_readers.hpp"
#include "state/conntrack_dump.hpp"
#include "state/netns.hpp"

namespace hptrace {

// Some of the rewritten connections that conntrack knows.
struct ExistingPiece {
    std::vector<Connection> connections;  // of one namespace
    // The state of their namespace, read before the first of them: with its inode number.
    std::optional<std::pair<std::uint32_t, Reading>> before;
    std::uint64_t boot_ns = 0;  // CLOCK_BOOTTIME when they were read
    std::string problem;        // why those of a namespace are not, or not all, among them; empty: they are
    bool last = false;
};

// Goes through conntrack of the calling thread's namespace, and of all others if that is wanted, a piece at a time.
// All calls must be made by one thread, which is in that namespace.
class ExistingConnections {
public:
    using Wanted = std::function<bool(const Connection&)>;
    using ReadState = std::function<Reading(std::uint32_t netns)>;

    ExistingConnections(bool everywhere, Wanted wanted, ReadState read)
        : everywhere_(everywhere), wanted_(std::move(wanted)), read_(std::move(read)) {}

    // What comes next: some milliseconds' work, but for the reading of a state. To be called until it is the last.
    ExistingPiece next();

private:
    // One namespace's. Of another namespace than this one nothing is read until a connection there is wanted: then its
    // state, and the connections again, which are from after that.
    struct Place {
        std::optional<NetnsPlace> elsewhere;  // none: this namespace
        bool state_read = false;
    };

    void find_places();
    ExistingPiece look(Place& place);
    ExistingPiece over(std::string problem);
    static Result<ConntrackDump> begin(const Place& place);
    static std::string explain(const Place& place, const Error& error);

    bool everywhere_;
    Wanted wanted_;
    ReadState read_;
    bool places_found_ = false;
    std::deque<Place> places_;
    std::optional<ConntrackDump> dump_;  // of the first of them
};

}  // namespace hptrace
