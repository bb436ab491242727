// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/netns.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include "base/number.hpp"

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

std::unexpected<Error> not_found(std::uint32_t inode) {
    return system_error(fmt::format("network namespace {}", inode), ENOENT,
                        "no process is in it and it is mounted nowhere: gone, or not to be seen from here");
}

Result<Fd> open_netns(std::string_view netns) {
    // Only a namespace is opened: a pipe given by mistake would hang the program, and a device can act on it.
    const Fd place(::open(netns_path(netns).c_str(), O_PATH | O_CLOEXEC));
    struct statfs file_system{};
    if (!place || ::fstatfs(place.get(), &file_system) != 0) {
        return namespace_error(netns, errno);
    }
    if (file_system.f_type != NSFS_MAGIC) {
        return namespace_error(netns, EINVAL);
    }
    Fd file(::open(fmt::format("/proc/self/fd/{}", place.get()).c_str(), O_RDONLY | O_CLOEXEC));
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

// "net:[4026531840]", as the kernel names a namespace (fs/nsfs.c).
std::optional<std::uint32_t> parse_netns_name(std::string_view name) {
    constexpr std::string_view prefix = "net:[";
    if (!name.starts_with(prefix) || !name.ends_with(']')) {
        return std::nullopt;
    }
    return parse_number<std::uint32_t>(name.substr(prefix.size(), name.size() - prefix.size() - 1));
}

// mountinfo writes blanks and backslashes of a path as \\ooo.
std::string unescape_mount(std::string_view text) {
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
        constexpr std::size_t digits = 3;
        const auto octal = text.substr(i + 1, digits);
        const auto code = parse_number<std::uint8_t>(octal, 8);
        if (text[i] == '\\' && octal.size() == digits && code) {
            result += static_cast<char>(*code);
            i += digits;
        } else {
            result += text[i];
        }
    }
    return result;
}

std::vector<NetnsPlace> list_processes() {
    std::vector<NetnsPlace> places;
    std::error_code error;
    for (std::filesystem::directory_iterator entry("/proc", error), end; !error && entry != end;
         entry.increment(error)) {
        const auto pid = parse_number<pid_t>(entry->path().filename().native());
        if (!pid) {
            continue;
        }
        const auto path = entry->path() / "ns/net";
        std::error_code gone;  // it ended meanwhile, or is not ours to look at
        if (const auto inode = parse_netns_name(std::filesystem::read_symlink(path, gone).native())) {
            places.push_back({.inode = *inode, .path = path, .pid = pid});
        }
    }
    std::ranges::sort(places, {}, [](const NetnsPlace& place) { return place.pid; });
    return places;
}

}  // namespace

std::optional<pid_t> netns_pid(std::string_view netns) {
    const bool number = !netns.empty() && std::ranges::all_of(netns, [](char c) { return c >= '0' && c <= '9'; });
    return number ? parse_number<pid_t>(netns) : std::nullopt;
}

std::string netns_path(std::string_view netns) {
    const auto pid = netns_pid(netns);
    return pid ? fmt::format("/proc/{}/ns/net", *pid) : std::string(netns);
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

Result<NetnsGuard> NetnsGuard::enter(const NetnsPlace& place) {
    auto guard = enter(std::string_view(place.path));
    // The process may be gone, and its number another's by now.
    if (guard && current_netns_inode() != place.inode) {
        return not_found(place.inode);
    }
    return guard;
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

std::vector<NetnsPlace> parse_netns_mounts(std::istream& mountinfo) {
    std::vector<NetnsPlace> places;
    for (std::string line; std::getline(mountinfo, line);) {
        std::istringstream fields(line);
        std::string skipped;
        std::string root;
        std::string mount_point;
        fields >> skipped >> skipped >> skipped >> root >> mount_point;
        if (const auto inode = parse_netns_name(root); inode && line.contains(" - nsfs ")) {
            places.push_back({.inode = *inode, .path = unescape_mount(mount_point), .pid = {}});
        }
    }
    return places;
}

std::vector<NetnsPlace> list_netns() {
    auto places = list_processes();
    std::ifstream mountinfo("/proc/thread-self/mountinfo");
    std::ranges::move(parse_netns_mounts(mountinfo), std::back_inserter(places));
    std::ranges::stable_sort(places, {}, &NetnsPlace::inode);
    const auto rest = std::ranges::unique(places, {}, &NetnsPlace::inode);
    places.erase(rest.begin(), rest.end());
    return places;
}

Result<NetnsPlace> find_netns(std::uint32_t inode) {
    auto places = list_netns();
    const auto found = std::ranges::find(places, inode, &NetnsPlace::inode);
    if (found == places.end()) {
        return not_found(inode);
    }
    return std::move(*found);
}

std::optional<std::uint64_t> current_netns_cookie() {
    const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    std::uint64_t cookie = 0;
    socklen_t size = sizeof(cookie);
    if (!socket || ::getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) != 0) {
        return std::nullopt;
    }
    return cookie;
}

}  // namespace hptrace
