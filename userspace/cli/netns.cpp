// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/netns.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>

namespace hptrace {

namespace {

constexpr const char* own_netns = "/proc/thread-self/ns/net";

Result<Fd> open_file(const std::string& path, const std::string& name) {
    Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) {
        return system_error(fmt::format("cannot open the network namespace {}", name), errno,
                            errno == EACCES ? "run as root" : "");
    }
    return file;
}

}  // namespace

Result<Fd> open_netns(const std::string& name) {
    const bool is_pid = std::ranges::all_of(name, [](unsigned char c) { return std::isdigit(c) != 0; });
    const auto title = is_pid ? fmt::format("of process {}", name) : fmt::format("'{}'", name);
    auto file = open_file(is_pid ? fmt::format("/proc/{}/ns/net", name) : name, title);
    if (!file) {
        return file;
    }
    // Any other file says ENOTTY; another kind of namespace says its kind.
    if (::ioctl(file->get(), NS_GET_NSTYPE) != CLONE_NEWNET) {
        return failure(fmt::format("{} is no network namespace", title),
                       "a path like /run/netns/NAME or /proc/PID/ns/net, or a PID");
    }
    return file;
}

Result<Fd> open_own_netns() {
    return open_file(own_netns, own_netns);
}

Result<void> enter_netns(const Fd& netns, const std::string& name) {
    if (::setns(netns.get(), CLONE_NEWNET) != 0) {
        return system_error(fmt::format("cannot enter the network namespace {}", name), errno,
                            errno == EPERM ? "run as root" : "");
    }
    return {};
}

Result<std::uint32_t> netns_inode() {
    struct stat status{};
    if (::stat(own_netns, &status) != 0) {
        return system_error(fmt::format("cannot read {}", own_netns), errno, "is /proc mounted?");
    }
    return static_cast<std::uint32_t>(status.st_ino);
}

}  // namespace hptrace
