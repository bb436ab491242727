// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/ipvs.hpp"

#include <arpa/inet.h>
#include <linux/genetlink.h>
#include <linux/ip_vs.h>

#include <algorithm>
#include <array>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/presence.hpp"

namespace hptrace {

namespace {

Request genl_request(std::uint16_t family, std::uint8_t command, std::uint8_t version, std::uint16_t flags) {
    Request request(family, flags);
    auto& header = request.family_header<genlmsghdr>();
    header.cmd = command;
    header.version = version;
    return request;
}

// Asks for all families: asked for one by name that is not there the kernel loads its module (ctrl_getfamily), and
// ip_vs can go at any time after it was found present. Nothing: it has.
Result<std::optional<std::uint16_t>> find_ipvs_family(NetlinkSocket& socket) {
    auto request = genl_request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1, NLM_F_DUMP);
    std::optional<std::uint16_t> id;
    const auto answered = socket.exchange(request, [&](const Message& message) -> Result<void> {
        const auto attributes = message.attributes<genlmsghdr>();
        if (!attributes) {
            return std::unexpected(attributes.error());
        }
        if (attributes->text(CTRL_ATTR_FAMILY_NAME) == IPVS_GENL_NAME) {
            id = attributes->number<std::uint16_t>(CTRL_ATTR_FAMILY_ID);
        }
        return {};
    });
    if (!answered) {
        return std::unexpected(answered.error());
    }
    return id;
}

Result<Attributes> nested_in(const Message& message, std::uint16_t type) {
    const auto attributes = message.attributes<genlmsghdr>();
    if (!attributes) {
        return std::unexpected(attributes.error());
    }
    return attributes->nested(type);
}

Result<std::vector<VirtualServer>> dump_virtual_servers(NetlinkSocket& socket, std::uint16_t family_id) {
    auto request = genl_request(family_id, IPVS_CMD_GET_SERVICE, IPVS_GENL_VERSION, NLM_F_DUMP);
    std::vector<VirtualServer> servers;
    const auto dumped = socket.exchange(request, [&](const Message& message) -> Result<void> {
        auto server = parse_virtual_server(message);
        if (!server) {
            return std::unexpected(server.error());
        }
        servers.push_back(*std::move(server));
        return {};
    });
    if (!dumped) {
        return std::unexpected(dumped.error());
    }
    return servers;
}

Result<void> dump_real_servers(NetlinkSocket& socket, std::uint16_t family_id, VirtualServer& server) {
    auto request = genl_request(family_id, IPVS_CMD_GET_DEST, IPVS_GENL_VERSION, NLM_F_DUMP);
    auto* const header = request.header();
    auto* const service = mnl_attr_nest_start(header, IPVS_CMD_ATTR_SERVICE);
    mnl_attr_put_u16(header, IPVS_SVC_ATTR_AF, static_cast<std::uint16_t>(to_af(server.family)));
    mnl_attr_put_u16(header, IPVS_SVC_ATTR_PROTOCOL, server.protocol);
    mnl_attr_put(header, IPVS_SVC_ATTR_ADDR, server.address.ip.bytes.size(), server.address.ip.bytes.data());
    mnl_attr_put_u16(header, IPVS_SVC_ATTR_PORT, htons(server.address.port));
    mnl_attr_nest_end(header, service);
    return socket.exchange(request, [&](const Message& message) -> Result<void> {
        const auto real_server = parse_real_server(message, server.family);
        if (!real_server) {
            return std::unexpected(real_server.error());
        }
        server.real_servers.push_back(*real_server);
        return {};
    });
}

// Nothing: no Service can be like it. It is chosen by a packet mark, or takes all ports of an address.
std::optional<Protocol> service_protocol(const VirtualServer& server) {
    return server.fwmark != 0 || server.address.port == 0 ? std::nullopt : protocol_from_number(server.protocol);
}

Result<std::vector<VirtualServer>> read_once() {
    auto socket = NetlinkSocket::open(NETLINK_GENERIC, "ip_vs");
    if (!socket) {
        return std::unexpected(socket.error());
    }
    const auto family_id = find_ipvs_family(*socket);
    if (!family_id) {
        return std::unexpected(family_id.error());
    }
    const auto& id = *family_id;
    if (!id) {
        return std::vector<VirtualServer>{};
    }
    auto servers = dump_virtual_servers(*socket, *id);
    if (!servers) {
        return std::unexpected(servers.error());
    }
    for (auto& server : *servers) {
        if (!service_protocol(server)) {
            continue;
        }
        if (const auto dumped = dump_real_servers(*socket, *id, server); !dumped) {
            return std::unexpected(dumped.error());
        }
        std::ranges::sort(server.real_servers);
    }
    return servers;
}

// Local addresses; true: also on a device that is for Services only.
using LocalAddresses = std::unordered_map<Address, bool>;

LocalAddresses index_of(const std::vector<LocalAddress>& addresses) {
    LocalAddresses index;
    for (const auto& [prefix, device] : addresses) {
        bool& of_services = index[prefix.address];
        of_services = of_services || device == "kube-ipvs0" || device == "kube-dummy-if";
    }
    return index;
}

// Without kube-proxy's sets: kube-proxy and kube-router keep Service addresses on a device of their own.
ServiceKind guess_kind(const LocalAddresses& addresses, const Address& ip) {
    const auto local = addresses.find(ip);
    return local == addresses.end() || local->second ? ServiceKind::cluster_ip : ServiceKind::node_port;
}

void set_kind(Service& service, const SetQuery& query, const std::vector<IpSet>& sets,
              const LocalAddresses& addresses) {
    if (const auto known = kind_of_service(sets, query)) {
        service.kind = known->kind;
        service.external_local = known->external_local;
    } else {
        service.kind = guess_kind(addresses, query.address.ip);
    }
}

// kube-proxy itself answers them on every node address; there is no virtual server.
void add_health_check_ports(const std::vector<IpSet>& sets, NodeState& state) {
    for (const auto family : {Family::ipv4, Family::ipv6}) {
        for (const auto port : health_check_ports(sets, family)) {
            Service service;
            service.kind = ServiceKind::health_check_node_port;
            service.proxy = ServiceProxy::ipvs;
            service.family = family;
            service.port = port;
            state.services.push_back(std::move(service));
        }
    }
}

}  // namespace

Result<VirtualServer> parse_virtual_server(const Message& message) {
    const auto service = nested_in(message, IPVS_CMD_ATTR_SERVICE);
    if (!service) {
        return std::unexpected(service.error());
    }
    const auto family = family_from_af(service->number<std::uint16_t>(IPVS_SVC_ATTR_AF).value_or(0));
    if (!family) {
        return failure("virtual server of an unknown address family");
    }
    VirtualServer server;
    server.family = *family;
    server.fwmark = service->number<std::uint32_t>(IPVS_SVC_ATTR_FWMARK).value_or(0);
    // struct ip_vs_flags {flags, mask}: the flags come first
    server.persistent =
        (service->number<std::uint32_t>(IPVS_SVC_ATTR_FLAGS).value_or(0) & std::uint32_t{IP_VS_SVC_F_PERSISTENT}) != 0;
    if (server.fwmark != 0) {
        return server;
    }
    const auto protocol = service->number<std::uint16_t>(IPVS_SVC_ATTR_PROTOCOL);
    const auto ip = service->address(IPVS_SVC_ATTR_ADDR, *family);
    const auto port = service->port(IPVS_SVC_ATTR_PORT);
    if (!protocol || !ip || !port) {
        return failure("incomplete virtual server");
    }
    server.protocol = static_cast<std::uint8_t>(*protocol);
    server.address = {.ip = *ip, .port = *port};
    return server;
}

Result<Endpoint> parse_real_server(const Message& message, Family family) {
    const auto destination = nested_in(message, IPVS_CMD_ATTR_DEST);
    if (!destination) {
        return std::unexpected(destination.error());
    }
    if (const auto own = destination->number<std::uint16_t>(IPVS_DEST_ATTR_ADDR_FAMILY)) {
        family = family_from_af(*own).value_or(family);
    }
    const auto ip = destination->address(IPVS_DEST_ATTR_ADDR, family);
    const auto port = destination->port(IPVS_DEST_ATTR_PORT);
    if (!ip || !port) {
        return failure("incomplete real server");
    }
    return Endpoint{.ip = *ip, .port = *port};
}

Result<std::vector<VirtualServer>> read_virtual_servers() {
    if (!subsystem_present("ip_vs")) {
        return std::vector<VirtualServer>{};
    }
    return retry_interrupted(read_once);
}

std::vector<SetQuery> set_queries(const std::vector<VirtualServer>& servers) {
    std::vector<SetQuery> queries;
    for (const auto& server : servers) {
        if (const auto protocol = service_protocol(server)) {
            queries.push_back({.address = server.address, .protocol = *protocol});
        }
    }
    return queries;
}

void add_ipvs_services(const std::vector<VirtualServer>& servers, const std::vector<IpSet>& sets, NodeState& state) {
    const auto addresses = index_of(state.local_addresses);
    for (const auto& server : servers) {
        const auto protocol = service_protocol(server);
        if (!protocol) {
            ++state.skipped_virtual_servers;
            continue;
        }
        Service service;
        service.proxy = ServiceProxy::ipvs;
        service.family = server.family;
        service.ip = server.address.ip;
        service.port = server.address.port;
        service.protocol = *protocol;
        service.endpoints = server.real_servers;
        service.persistent = server.persistent;
        set_kind(service, {server.address, *protocol}, sets, addresses);
        state.services.push_back(std::move(service));
    }
    if (state.proxy == ProxyMode::none && !servers.empty()) {
        state.proxy = sets.empty() ? ProxyMode::other_ipvs : ProxyMode::ipvs;
    }
    // Sets stay behind when kube-proxy is switched to another mode.
    if (state.proxy == ProxyMode::ipvs) {
        add_health_check_ports(sets, state);
    }
}

}  // namespace hptrace
