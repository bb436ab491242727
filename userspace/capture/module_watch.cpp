// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/module_watch.hpp"

#include <linux/netlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>

namespace hptrace {

namespace {

// The kernel's own announcements; group 2 is udev's.
constexpr unsigned kernel_group = 1;

}  // namespace

std::optional<ModuleChange> parse_uevent(std::string_view message) {
    constexpr std::string_view added = "add@/module/";
    constexpr std::string_view removed = "remove@/module/";
    const auto first = message.substr(0, message.find('\0'));
    for (const auto prefix : {added, removed}) {
        // Not what lies below a module (/module/nf_nat/drivers/...).
        if (const auto name = first.substr(std::min(prefix.size(), first.size()));
            first.starts_with(prefix) && !name.empty() && !name.contains('/')) {
            return ModuleChange{.module = std::string(name), .loaded = prefix == added};
        }
    }
    return std::nullopt;
}

Result<ModuleWatch> ModuleWatch::open() {
    Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = kernel_group;
    if (!socket || ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        return system_error("cannot listen to kernel modules coming and going");
    }
    return ModuleWatch(std::move(socket));
}

Result<std::vector<ModuleChange>> ModuleWatch::take() {
    std::vector<ModuleChange> changes;
    bool lost = false;
    std::array<char, 4096> buffer{};
    for (;;) {
        sockaddr_nl sender{};
        socklen_t size = sizeof(sender);
        const auto length = ::recvfrom(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT,
                                       reinterpret_cast<sockaddr*>(&sender), &size);
        if (length >= 0) {
            const bool from_kernel = sender.nl_pid == 0;
            auto change = parse_uevent({buffer.data(), static_cast<std::size_t>(length)});
            if (from_kernel && change) {
                changes.push_back(*std::move(change));
            }
        } else if (errno == ENOBUFS) {
            lost = true;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            break;
        } else if (errno != EINTR) {
            return system_error("cannot read what the kernel announces of its modules");
        }
    }
    if (lost) {
        return system_error("announcements of kernel modules were lost", ENOBUFS);
    }
    return changes;
}

}  // namespace hptrace
