// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace hptrace {

// The calling thread in another network namespace, for the lifetime of the guard. Sockets opened meanwhile belong to
// that namespace and stay there. Must be destroyed by the thread that made it.
class NetnsGuard {
public:
    // `netns`: a process id, or the path of a namespace file (/run/netns/NAME, /proc/PID/ns/net).
    // Errors: no such process or file, not a network namespace, not permitted.
    static Result<NetnsGuard> enter(std::string_view netns);

    NetnsGuard(NetnsGuard&&) noexcept = default;
    NetnsGuard& operator=(NetnsGuard&&) = delete;
    NetnsGuard(const NetnsGuard&) = delete;
    NetnsGuard& operator=(const NetnsGuard&) = delete;
    // Returns to the former namespace. Ends the program if the kernel refuses: a thread that does not know which node
    // it looks at must not go on.
    ~NetnsGuard();

private:
    explicit NetnsGuard(Fd home) : home_(std::move(home)) {}

    Fd home_;
};

// Path of the namespace file for a process id or path, as `--netns` takes them.
std::string netns_path(std::string_view netns);

// Inode number of the calling thread's network namespace, as the kernel's net->ns.inum.
Result<std::uint32_t> current_netns_inode();

// Inode number of the network namespace of a process id or path. Errors as NetnsGuard::enter, without entering it.
Result<std::uint32_t> netns_inode(std::string_view netns);

}  // namespace hptrace
