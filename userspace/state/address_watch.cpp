// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/address_watch.hpp"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "state/netlink.hpp"

namespace hptrace {
namespace {

// Routes of other tables come and go all the time where a routing daemon runs.
bool concerns_local_table(Bytes datagram) {
    while (datagram.size() >= sizeof(nlmsghdr)) {
        nlmsghdr header{};
        std::memcpy(&header, datagram.data(), sizeof(header));
        if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > datagram.size()) {
            return true;
        }
        const bool of_route = header.nlmsg_type == RTM_NEWROUTE || header.nlmsg_type == RTM_DELROUTE;
        if (!of_route || header.nlmsg_len < sizeof(header) + sizeof(rtmsg)) {
            return true;
        }
        rtmsg route{};
        std::memcpy(&route, datagram.subspan(sizeof(header)).data(), sizeof(route));
        if (route.rtm_table == RT_TABLE_LOCAL && route.rtm_type == RTN_LOCAL) {
            return true;
        }
        datagram = datagram.subspan(std::min(netlink_align(header.nlmsg_len), datagram.size()));
    }
    return !datagram.empty();
}

}  // namespace

Result<AddressWatch> AddressWatch::open(int receive_buffer) {
    Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
    if (!socket) {
        return system_error("cannot listen to rtnetlink");
    }
    if (receive_buffer != 0 &&
        ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer)) != 0) {
        return system_error("cannot size the buffer of rtnetlink");
    }
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    // Every address is a local route. Links: their names are shown, and IPv4 routes that go with a device
    // (fib_table_flush) are not announced.
    address.nl_groups = RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE | RTMGRP_LINK;
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        return system_error("cannot listen to rtnetlink");
    }
    return AddressWatch(std::move(socket));
}

bool AddressWatch::changed() {
    bool changed = false;
    // Of a longer message the beginning is enough.
    std::array<std::uint8_t, 8192> buffer{};
    for (;;) {
        const auto length = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (length > 0) {
            changed = changed || concerns_local_table(Bytes(buffer).first(static_cast<std::size_t>(length)));
        } else if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return changed;
        } else if (length < 0 && errno == ENOBUFS) {
            changed = true;  // and go on: what is still there is older
        } else if (length == 0 || errno != EINTR) {
            return true;  // cannot tell
        }
    }
}

}  // namespace hptrace
