// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <istream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace hptrace {

// A network namespace and how to get there.
struct NetnsPlace {
    std::uint32_t inode = 0;
    std::string path;          // of its file
    std::optional<pid_t> pid;  // the lowest of the processes in it; none: it is mounted only
};

// The calling thread in another network namespace, for the lifetime of the guard. Sockets opened meanwhile belong to
// that namespace and stay there. Must be destroyed by the thread that made it.
class NetnsGuard {
public:
    // `netns`: a process id, or the path of a namespace file (/run/netns/NAME, /proc/PID/ns/net).
    // Errors: no such process or file, not a network namespace, not permitted.
    static Result<NetnsGuard> enter(std::string_view netns);
    // The same for a place found before. Error also: ENOENT, it leads to another namespace by now.
    static Result<NetnsGuard> enter(const NetnsPlace& place);

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
// The process id, if it is one.
std::optional<pid_t> netns_pid(std::string_view netns);

// Inode number of the calling thread's network namespace, as the kernel's net->ns.inum.
Result<std::uint32_t> current_netns_inode();

// Inode number of the network namespace of a process id or path. Errors as NetnsGuard::enter, without entering it.
Result<std::uint32_t> netns_inode(std::string_view netns);

// Every network namespace that a process is in or that is mounted (/run/netns, /run/docker/netns, ...), as far as this
// process's /proc shows; each once, sorted by inode number. Takes as long as /proc has processes.
std::vector<NetnsPlace> list_netns();
// The one with that inode number. Error: ENOENT, none of them has it.
Result<NetnsPlace> find_netns(std::uint32_t inode);
// Those that are mounted, from the text of /proc/PID/mountinfo (proc(5); file system nsfs, root net:[INODE]).
std::vector<NetnsPlace> parse_netns_mounts(std::istream& mountinfo);

// What no two namespaces share since the machine was started, other than inode numbers: net->net_cookie of the calling
// thread's (SO_NETNS_COOKIE, since Linux 5.14). Nothing: the kernel does not tell.
std::optional<std::uint64_t> current_netns_cookie();

}  // namespace hptrace
