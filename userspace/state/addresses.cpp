// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/addresses.hpp"

#include <linux/rtnetlink.h>
#include <net/if.h>

#include <array>
#include <map>

namespace hptrace {

namespace {

Result<std::vector<LocalRoute>> dump_local_routes(NetlinkSocket& socket, Family family) {
    Request request(RTM_GETROUTE, NLM_F_DUMP);
    auto& filter = request.family_header<rtmsg>();
    filter.rtm_family = static_cast<unsigned char>(to_af(family));
    filter.rtm_table = RT_TABLE_LOCAL;
    filter.rtm_type = RTN_LOCAL;
    std::vector<LocalRoute> routes;
    const auto dumped = socket.exchange(request, [&](const Message& message) -> Result<void> {
        const auto route = parse_local_route(message);
        if (!route) {
            return std::unexpected(route.error());
        }
        // A kernel without IPv6 answers for all families it has (rtnl_dump_all).
        if (*route && (*route)->prefix.address.family == family) {
            routes.push_back(**route);
        }
        return {};
    });
    if (!dumped) {
        const int code = dumped.error().code;
        const bool no_such_table = code == ENOENT;  // namespace without any address
        const bool no_such_family = family == Family::ipv6 && (code == EAFNOSUPPORT || code == EOPNOTSUPP);
        if (!no_such_table && !no_such_family) {
            return std::unexpected(dumped.error());
        }
    }
    return routes;
}

std::string device_name(std::uint32_t index) {
    std::array<char, IF_NAMESIZE> name{};
    return if_indextoname(index, name.data()) == nullptr ? std::string() : std::string(name.data());
}

Result<std::vector<LocalAddress>> read_once() {
    auto socket = NetlinkSocket::open(NETLINK_ROUTE, "local routing table");
    if (!socket) {
        return std::unexpected(socket.error());
    }
    socket->ask_for_strict_checks();
    std::map<std::uint32_t, std::string> devices;
    std::vector<LocalAddress> addresses;
    for (const auto family : {Family::ipv4, Family::ipv6}) {
        const auto routes = dump_local_routes(*socket, family);
        if (!routes) {
            return std::unexpected(routes.error());
        }
        for (const auto& route : *routes) {
            const auto [device, is_new] = devices.try_emplace(route.device);
            if (is_new && route.device != 0) {
                device->second = device_name(route.device);
            }
            addresses.push_back({.prefix = route.prefix, .device = device->second});
        }
    }
    return addresses;
}

}  // namespace

Result<std::optional<LocalRoute>> parse_local_route(const Message& message) {
    const auto* const route = message.family_header<rtmsg>();
    const auto attributes = message.attributes<rtmsg>();
    if (route == nullptr || !attributes) {
        return failure("truncated route message");
    }
    const auto family = family_from_af(route->rtm_family);
    if (message.header->nlmsg_type != RTM_NEWROUTE || !family || route->rtm_type != RTN_LOCAL ||
        attributes->number<std::uint32_t>(RTA_TABLE).value_or(route->rtm_table) != RT_TABLE_LOCAL) {
        return std::nullopt;
    }
    Prefix prefix{.address = Address{.family = *family}, .length = route->rtm_dst_len};
    if (prefix.length > prefix.address.size() * 8) {
        return failure("route message with an impossible prefix length");
    }
    if (const auto destination = attributes->address(RTA_DST, *family)) {
        prefix.address = *destination;
    } else if (prefix.length != 0) {
        return failure("route message without its destination");
    }
    return LocalRoute{.prefix = prefix, .device = attributes->number<std::uint32_t>(RTA_OIF).value_or(0)};
}

Result<std::vector<LocalAddress>> read_local_addresses() {
    return retry_interrupted(read_once);
}

}  // namespace hptrace
