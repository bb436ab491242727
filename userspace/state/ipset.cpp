// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/ipset.hpp"

#include <arpa/inet.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>

#include "base/presence.hpp"

namespace hptrace {

namespace {

Request ipset_request(unsigned command, std::uint16_t flags, std::uint8_t protocol) {
    Request request(nfnl_type(NFNL_SUBSYS_IPSET, command), flags);
    auto& header = request.family_header<nfgenmsg>();
    header.nfgen_family = AF_INET;
    header.version = NFNETLINK_V0;
    mnl_attr_put_u8(request.header(), IPSET_ATTR_PROTOCOL, protocol);
    return request;
}

// The newest protocol both sides speak: kernels before 4.20 know only version 6.
Result<std::uint8_t> negotiate_protocol(NetlinkSocket& socket) {
    auto request = ipset_request(IPSET_CMD_PROTOCOL, 0, IPSET_PROTOCOL);
    std::uint8_t protocol = IPSET_PROTOCOL_MIN;
    const auto answered = socket.exchange(request, [&](const Message& message) -> Result<void> {
        const auto attributes = message.attributes<nfgenmsg>();
        if (!attributes) {
            return std::unexpected(attributes.error());
        }
        const auto newest = attributes->number<std::uint8_t>(IPSET_ATTR_PROTOCOL);
        if (!newest || *newest < IPSET_PROTOCOL_MIN) {
            return failure("unknown ipset protocol version");
        }
        protocol = std::min<std::uint8_t>(*newest, IPSET_PROTOCOL);
        return {};
    });
    if (!answered) {
        return std::unexpected(answered.error());
    }
    return protocol;
}

Result<std::vector<IpSet>> list(NetlinkSocket& socket, Request& request) {
    std::vector<IpSet> sets;
    const auto listed =
        socket.exchange(request, [&](const Message& message) -> Result<void> { return parse_ipset(message, sets); });
    if (!listed) {
        return std::unexpected(listed.error());
    }
    return sets;
}

Result<SetMember> parse_member(Bytes data) {
    const auto attributes = Attributes::parse(data);
    if (!attributes) {
        return std::unexpected(attributes.error());
    }
    SetMember member{.ip = std::nullopt,
                     .port = attributes->port(IPSET_ATTR_PORT),
                     .protocol = attributes->number<std::uint8_t>(IPSET_ATTR_PROTO)};
    if (attributes->find(IPSET_ATTR_IP)) {
        const auto ip = attributes->nested(IPSET_ATTR_IP);
        if (!ip) {
            return std::unexpected(ip.error());
        }
        member.ip = ip->address(IPSET_ATTR_IPADDR_IPV4, Family::ipv4);
        if (!member.ip) {
            member.ip = ip->address(IPSET_ATTR_IPADDR_IPV6, Family::ipv6);
        }
        if (!member.ip) {
            return failure("ipset member without its address");
        }
    }
    return member;
}

Result<std::vector<IpSet>> read_once(std::string_view name_prefix) {
    auto socket = NetlinkSocket::open(NETLINK_NETFILTER, "ipset");
    if (!socket) {
        return std::unexpected(socket.error());
    }
    const auto protocol = negotiate_protocol(*socket);
    if (!protocol) {
        return std::unexpected(protocol.error());
    }
    // Names first: other people's sets can have millions of members.
    auto names = ipset_request(IPSET_CMD_LIST, NLM_F_DUMP, *protocol);
    mnl_attr_put_u32(names.header(), IPSET_ATTR_FLAGS, htonl(IPSET_FLAG_LIST_SETNAME));
    const auto all = list(*socket, names);
    if (!all) {
        return std::unexpected(all.error());
    }
    std::vector<IpSet> wanted;
    for (const auto& [name, type, members] : *all) {
        if (!name.starts_with(name_prefix)) {
            continue;
        }
        auto request = ipset_request(IPSET_CMD_LIST, NLM_F_DUMP, *protocol);
        mnl_attr_put_strz(request.header(), IPSET_ATTR_SETNAME, name.c_str());
        auto sets = list(*socket, request);
        if (sets) {
            std::ranges::move(*sets, std::back_inserter(wanted));
        } else if (sets.error().code != ENOENT) {  // destroyed meanwhile: then it is not there
            return std::unexpected(sets.error());
        }
    }
    for (auto& set : wanted) {
        std::ranges::sort(set.members);
    }
    return wanted;
}

}  // namespace

bool IpSet::contains(const SetMember& member) const {
    return std::ranges::binary_search(members, member);
}

Result<void> parse_ipset(const Message& message, std::vector<IpSet>& sets) {
    const auto attributes = message.attributes<nfgenmsg>();
    if (!attributes) {
        return std::unexpected(attributes.error());
    }
    const auto name = attributes->text(IPSET_ATTR_SETNAME);
    if (!name) {
        return failure("ipset message without the set's name");
    }
    if (sets.empty() || sets.back().name != *name) {
        sets.push_back({.name = *name, .type = {}, .members = {}});
    }
    auto& set = sets.back();
    if (const auto type = attributes->text(IPSET_ATTR_TYPENAME)) {
        set.type = *type;
    }
    if (!attributes->find(IPSET_ATTR_ADT)) {
        return {};
    }
    const auto members = attributes->nested(IPSET_ATTR_ADT);
    if (!members) {
        return std::unexpected(members.error());
    }
    for (const auto& [type, payload] : members->all()) {
        if (type != IPSET_ATTR_DATA) {
            continue;
        }
        const auto member = parse_member(payload);
        if (!member) {
            return std::unexpected(member.error());
        }
        set.members.push_back(*member);
    }
    return {};
}

Result<std::vector<IpSet>> read_ipsets(std::string_view name_prefix) {
    if (!subsystem_present("ip_set") || !subsystem_present("nfnetlink")) {
        return std::vector<IpSet>{};
    }
    return retry_interrupted([&] { return read_once(name_prefix); });
}

}  // namespace hptrace
