// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "capture/connection.hpp"
#include "state/netns.hpp"

namespace hptrace {

// The rewritten connections that conntrack knows, with a line for each namespace whose are not known, and why.
struct ExistingConnections {
    std::vector<Connection> connections;
    std::vector<std::string> problems;
};

// Of the namespace the calling thread is in.
ExistingConnections read_existing_here();

// Of all others that processes or files lead to. `here`: inode number of the calling thread's. `wanted`: of a namespace
// with one of these, `before` is called and its connections are read again: what is done there is from before them.
ExistingConnections read_existing_elsewhere(std::uint32_t here, const std::function<bool(const Connection&)>& wanted,
                                            const std::function<void(const NetnsPlace&)>& before);

}  // namespace hptrace
