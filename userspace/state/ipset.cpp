// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/ipset.hpp"

#include <arpa/inet.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

namespace hptrace {

namespace {

constexpr std::string_view port_type = "bitmap:port";
constexpr std::string_view ip_port_type = "hash:ip,port";

Request ipset_request(unsigned command, std::uint8_t protocol) {
    Request request(nfnl_type(NFNL_SUBSYS_IPSET, command), 0);
    auto& header = request.family_header<nfgenmsg>();
    header.nfgen_family = AF_INET;
    header.version = NFNETLINK_V0;
    mnl_attr_put_u8(request.header(), IPSET_ATTR_PROTOCOL, protocol);
    return request;
}

// The newest protocol both sides speak: kernels before 4.20 know only version 6.
Result<std::uint8_t> negotiate_protocol(NetlinkSocket& socket) {
    auto request = ipset_request(IPSET_CMD_PROTOCOL, IPSET_PROTOCOL);
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

// struct nla_policy of hash:ip,port and bitmap:port (ip_set_hash_ipport.c, ip_set_bitmap_port.c).
Request test_request(const IpSet& set, const SetMember& member, std::uint8_t protocol) {
    auto request = ipset_request(IPSET_CMD_TEST, protocol);
    auto* const header = request.header();
    mnl_attr_put_strz(header, IPSET_ATTR_SETNAME, set.name.c_str());
    auto* const data = mnl_attr_nest_start(header, IPSET_ATTR_DATA);
    if (member.ip) {
        auto* const ip = mnl_attr_nest_start(header, IPSET_ATTR_IP);
        const auto type = member.ip->family == Family::ipv4 ? IPSET_ATTR_IPADDR_IPV4 : IPSET_ATTR_IPADDR_IPV6;
        mnl_attr_put(header, static_cast<std::uint16_t>(type | NLA_F_NET_BYTEORDER), member.ip->size(),
                     member.ip->bytes.data());
        mnl_attr_nest_end(header, ip);
    }
    if (member.port) {
        mnl_attr_put_u16(header, IPSET_ATTR_PORT | NLA_F_NET_BYTEORDER, htons(*member.port));
    }
    if (member.protocol) {
        mnl_attr_put_u8(header, IPSET_ATTR_PROTO, *member.protocol);
    }
    mnl_attr_nest_end(header, data);
    return request;
}

}  // namespace

bool IpSet::contains(const SetMember& member) const {
    return std::ranges::binary_search(members, member);
}

SetMember as_in(const IpSet& set, SetMember member) {
    if (set.type == port_type) {
        member.ip.reset();
        member.protocol.reset();
    }
    return member;
}

Result<KernelSets> KernelSets::open() {
    auto socket = NetlinkSocket::open(NETLINK_NETFILTER, "ipset");
    if (!socket) {
        return std::unexpected(socket.error());
    }
    const auto protocol = negotiate_protocol(*socket);
    if (!protocol) {
        return std::unexpected(protocol.error());
    }
    return KernelSets(*std::move(socket), *protocol);
}

Result<std::vector<IpSet>> KernelSets::existing(const std::vector<std::string>& names) {
    std::vector<Request> requests;
    for (const auto& name : names) {
        requests.push_back(ipset_request(IPSET_CMD_HEADER, protocol_));
        mnl_attr_put_strz(requests.back().header(), IPSET_ATTR_SETNAME, name.c_str());
    }
    std::vector<IpSet> sets;
    const auto answer = [&](std::size_t request, const Message& message) -> Result<void> {
        const auto attributes = message.attributes<nfgenmsg>();
        if (!attributes) {
            return std::unexpected(attributes.error());
        }
        const auto type = attributes->text(IPSET_ATTR_TYPENAME);
        if (!type) {
            return failure("an ipset without a type");
        }
        sets.push_back({.name = names[request], .type = *type, .members = {}});
        return {};
    };
    const auto refusal = [](std::size_t /*request*/, int code) -> Result<void> {
        return code == ENOENT ? Result<void>() : system_error("refused by the kernel", code);
    };
    if (const auto asked = socket_.exchange_all(requests, answer, refusal); !asked) {
        return std::unexpected(asked.error());
    }
    return sets;
}

Result<std::vector<bool>> KernelSets::test(const IpSet& set, const std::vector<SetMember>& members) {
    std::vector<bool> answers(members.size(), false);
    if (set.type != port_type && set.type != ip_port_type) {
        return answers;
    }
    // What is in the set has no answer at all, so that most questions cost nothing more than being asked.
    constexpr std::size_t at_once = 256;
    std::vector<Request> requests;
    for (std::size_t begin = 0; begin < members.size(); begin += requests.size()) {
        requests.clear();
        for (std::size_t i = begin; i < std::min(members.size(), begin + at_once); ++i) {
            requests.push_back(test_request(set, as_in(set, members[i]), protocol_));
            answers[i] = true;
        }
        const auto answer = [](std::size_t /*request*/, const Message& /*message*/) -> Result<void> { return {}; };
        const auto refusal = [&](std::size_t request, int code) -> Result<void> {
            answers[begin + request] = false;
            const bool not_in_it = code == IPSET_ERR_EXIST || code == ENOENT;
            return not_in_it ? Result<void>() : system_error("refused by the kernel", code);
        };
        if (const auto asked = socket_.exchange_all(requests, answer, refusal); !asked) {
            return std::unexpected(asked.error());
        }
    }
    return answers;
}

}  // namespace hptrace
