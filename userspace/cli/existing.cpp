// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/existing.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/clock.hpp"

namespace hptrace {

ExistingPiece ExistingConnections::next() {
    if (!std::exchange(places_found_, true)) {
        find_places();
    }
    auto piece = places_.empty() ? ExistingPiece{} : look(places_.front());
    piece.boot_ns = boot_clock_ns();
    piece.last = places_.empty();
    return piece;
}

void ExistingConnections::find_places() {
    places_.emplace_back();
    const auto here = current_netns_inode();
    if (!everywhere_ || !here) {
        return;
    }
    for (auto& place : list_netns()) {
        if (place.inode != *here) {
            places_.push_back({.elsewhere = std::move(place)});
        }
    }
}

ExistingPiece ExistingConnections::look(Place& place) {
    ExistingPiece piece;
    if (!place.elsewhere && !place.state_read) {
        if (const auto here = current_netns_inode()) {
            piece.before.emplace(*here, read_(*here));
        }
        place.state_read = true;
        return piece;
    }
    if (!dump_) {
        auto begun = begin(place);
        if (!begun) {
            return over(explain(place, begun.error()));
        }
        dump_.emplace(*std::move(begun));
    }
    auto found = dump_->next();
    if (!found) {
        return over(explain(place, found.error()));
    }
    if (!*found) {
        return over({});
    }
    auto& connections = **found;
    std::erase_if(connections, [this](const Connection& connection) { return !wanted_(connection); });
    if (!connections.empty() && !place.state_read) {
        const auto netns = place.elsewhere->inode;
        piece.before.emplace(netns, read_(netns));
        place.state_read = true;
        dump_.reset();
        return piece;
    }
    piece.connections = std::move(connections);
    return piece;
}

ExistingPiece ExistingConnections::over(std::string problem) {
    dump_.reset();
    places_.pop_front();
    ExistingPiece piece;
    piece.problem = std::move(problem);
    return piece;
}

Result<ConntrackDump> ExistingConnections::begin(const Place& place) {
    if (!place.elsewhere) {
        return ConntrackDump::begin();
    }
    const auto there = NetnsGuard::enter(*place.elsewhere);
    return there ? ConntrackDump::begin() : std::unexpected(there.error());
}

std::string ExistingConnections::explain(const Place& place, const Error& error) {
    if (!place.elsewhere) {
        return fmt::format("connections that exist already are not all judged: {}", describe(error));
    }
    if (error.code == ENOENT || error.code == ESRCH) {  // gone, with its connections
        return {};
    }
    return fmt::format("connections that exist already in network namespace {} ({}) are not all judged: {}",
                       place.elsewhere->inode, place.elsewhere->path, describe(error));
}

}  // namespace hptrace
