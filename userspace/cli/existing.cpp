// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/existing.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "state/reader.hpp"

namespace hptrace {

namespace {

Result<std::vector<Connection>> read_in(const NetnsPlace& place) {
    const auto there = NetnsGuard::enter(place);
    return there ? read_existing_connections() : std::unexpected(there.error());
}

}  // namespace

ExistingConnections read_existing_here() {
    auto existing = read_existing_connections();
    if (!existing) {
        return {
            .connections = {},
            .problems = {fmt::format("connections that exist already are not judged: {}", describe(existing.error()))}};
    }
    return {.connections = *std::move(existing), .problems = {}};
}

ExistingConnections read_existing_elsewhere(std::uint32_t here, const std::function<bool(const Connection&)>& wanted,
                                            const std::function<void(const NetnsPlace&)>& before) {
    ExistingConnections all;
    for (const auto& place : list_netns()) {
        if (place.inode == here) {
            continue;
        }
        auto existing = read_in(place);
        if (existing && std::ranges::any_of(*existing, wanted)) {
            before(place);
            existing = read_in(place);
        }
        if (existing) {
            std::ranges::move(*existing, std::back_inserter(all.connections));
        } else if (existing.error().code != ENOENT && existing.error().code != ESRCH) {  // gone, with its connections
            all.problems.push_back(
                fmt::format("connections that exist already in network namespace {} ({}) are not judged: {}",
                            place.inode, place.path, describe(existing.error())));
        }
    }
    return all;
}

}  // namespace hptrace
