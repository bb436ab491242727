// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/netns.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace hptrace {

namespace {

// /proc/self is the thread-group leader's namespace, not this thread's.
constexpr auto own_netns = "/proc/thread-self/ns/net";

std::string hint_for(int code) {
    switch (code) {
        case ENOENT:
        case ESRCH:
            return "no such process or namespace file";
        case EACCES:
        case EPERM:
            return "needs root: CAP_SYS_ADMIN, and CAP_SYS_PTRACE for other users' processes";
        case EINVAL:
        case ENOTTY:
            return "not a network namespace file";
        default:
            return {};
    }
}

std::unexpected<Error> namespace_error(std::string_view netns, int code) {
    return system_error(fmt::format("network namespace '{}'", netns), code, hint_for(code));
}

Result<Fd> open_netns(std::string_view netns) {
    // O_NONBLOCK: a pipe given by mistake must not hang the program.
    Fd file(::open(netns_path(netns).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file) {
        return namespace_error(netns, errno);
    }
    const int type = ::ioctl(file.get(), NS_GET_NSTYPE);
    if (type < 0) {
        return namespace_error(netns, errno);
    }
    if (type != CLONE_NEWNET) {
        return namespace_error(netns, EINVAL);
    }
    return file;
}

}  // namespace

std::string netns_path(std::string_view netns) {
    const bool number = !netns.empty() && std::ranges::all_of(netns, [](char c) { return c >= '0' && c <= '9'; });
    return number ? fmt::format("/proc/{}/ns/net", netns) : std::string(netns);
}

Result<NetnsGuard> NetnsGuard::enter(std::string_view netns) {
    auto home = open_netns(own_netns);
    if (!home) {
        return std::unexpected(home.error());
    }
    const auto there = open_netns(netns);
    if (!there) {
        return std::unexpected(there.error());
    }
    if (::setns(there->get(), CLONE_NEWNET) != 0) {
        return namespace_error(netns, errno);
    }
    return NetnsGuard(*std::move(home));
}

NetnsGuard::~NetnsGuard() {
    if (home_ && ::setns(home_.get(), CLONE_NEWNET) != 0) {
        std::perror("hptrace: cannot return to the former network namespace");
        std::abort();
    }
}

Result<std::uint32_t> current_netns_inode() {
    return netns_inode(own_netns);
}

Result<std::uint32_t> netns_inode(std::string_view netns) {
    const auto file = open_netns(netns);
    if (!file) {
        return std::unexpected(file.error());
    }
    struct stat info{};
    if (::fstat(file->get(), &info) != 0) {
        return namespace_error(netns, errno);
    }
    return static_cast<std::uint32_t>(info.st_ino);
}

}  // namespace hptrace
