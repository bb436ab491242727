// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/addresses.hpp"

#include <linux/rtnetlink.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <string_view>

#include "fresh_netns.hpp"
#include "messages.hpp"

using namespace hptrace;

namespace {

bool has(const std::vector<LocalAddress>& addresses, std::string_view prefix, std::string_view device) {
    return std::ranges::any_of(addresses, [&](const LocalAddress& local) {
        return to_string(local.prefix) == prefix && local.device == device;
    });
}

bool has(const std::vector<LocalAddress>& addresses, std::string_view prefix) {
    return std::ranges::any_of(addresses, [&](const auto& local) { return to_string(local.prefix) == prefix; });
}

MessageBuilder route(std::uint8_t type, std::uint8_t table, std::uint8_t length = 32) {
    MessageBuilder message(RTM_NEWROUTE, NLM_F_MULTI);
    message.extra(rtmsg{.rtm_family = AF_INET,
                        .rtm_dst_len = length,
                        .rtm_src_len = 0,
                        .rtm_tos = 0,
                        .rtm_table = table,
                        .rtm_protocol = RTPROT_KERNEL,
                        .rtm_scope = RT_SCOPE_HOST,
                        .rtm_type = type,
                        .rtm_flags = 0});
    message.attribute(RTA_TABLE, std::uint32_t{table});
    message.attribute(RTA_DST, std::to_array<std::uint8_t>({10, 96, 0, 10}));
    message.attribute(RTA_OIF, std::uint32_t{3});
    return message;
}

}  // namespace

TEST_CASE("Service addresses on a device that is down are local", "[addresses]") {
    const auto addresses = in_fresh_netns([] {
        run("ip link set lo up");
        // a bridge instead of a dummy device: not every kernel has those; down and without ARP it behaves the same
        run("ip link add kube-ipvs0 type bridge && ip link set kube-ipvs0 arp off");
        run("ip addr add 10.96.0.10/32 dev kube-ipvs0");
        run("ip -6 addr add fd00:96::a/128 dev kube-ipvs0");
        run("ip link add eth0 type bridge && ip link set eth0 up && ip addr add 192.0.2.5/24 dev eth0");
        run("ip route add local 198.51.100.0/24 dev lo proto 66");
        run("ip route add 203.0.113.0/24 dev eth0");
        run("ip route add local 203.0.113.7 dev lo table 200");
        return read_local_addresses();
    });
    REQUIRE(addresses);
    CHECK(has(*addresses, "10.96.0.10/32", "kube-ipvs0"));
    CHECK(has(*addresses, "fd00:96::a/128", "kube-ipvs0"));
    CHECK(has(*addresses, "192.0.2.5/32", "eth0"));
    CHECK(has(*addresses, "127.0.0.0/8", "lo"));
    CHECK(has(*addresses, "::1/128", "lo"));
    CHECK(has(*addresses, "198.51.100.0/24", "lo"));
    CHECK_FALSE(has(*addresses, "192.0.2.255/32"));  // broadcast
    CHECK_FALSE(has(*addresses, "192.0.2.0/24"));
    CHECK_FALSE(has(*addresses, "203.0.113.0/24"));
    CHECK_FALSE(has(*addresses, "203.0.113.7/32"));  // another table: not what addrtype LOCAL asks
}

TEST_CASE("a namespace without addresses is no error", "[addresses]") {
    const auto addresses = in_fresh_netns(read_local_addresses);
    REQUIRE(addresses);
    CHECK(addresses->empty());
}

TEST_CASE("thousands of Service addresses come in many messages", "[addresses]") {
    const auto addresses = in_fresh_netns([] {
        run("ip link add kube-ipvs0 type bridge");
        run("i=0; while [ $i -lt 3000 ]; do echo addr add 10.96.$((i / 250)).$((i % 250))/32 dev kube-ipvs0; i=$((i + "
            "1)); "
            "done | ip -batch -");
        return read_local_addresses();
    });
    REQUIRE(addresses);
    CHECK(addresses->size() == 3000);
    CHECK(has(*addresses, "10.96.11.249/32", "kube-ipvs0"));
}

TEST_CASE("only local routes of the local table count", "[addresses]") {
    auto local = route(RTN_LOCAL, RT_TABLE_LOCAL);
    const auto parsed = parse_local_route(local.message());
    REQUIRE(parsed);
    REQUIRE(*parsed);
    CHECK(to_string((*parsed)->prefix) == "10.96.0.10/32");
    CHECK((*parsed)->device == 3);
    auto broadcast = route(RTN_BROADCAST, RT_TABLE_LOCAL);
    CHECK(parse_local_route(broadcast.message()).value() == std::nullopt);
    auto elsewhere = route(RTN_LOCAL, 200);
    CHECK(parse_local_route(elsewhere.message()).value() == std::nullopt);
}

TEST_CASE("malformed routes are errors", "[addresses]") {
    for (std::size_t cut = 1; cut < 30; ++cut) {
        INFO(cut << " bytes missing");
        auto message = route(RTN_LOCAL, RT_TABLE_LOCAL);
        const auto parsed = parse_local_route(message.message(cut));
        // A cut between attributes leaves a well-formed message that may lack the device, never another address.
        CHECK((!parsed || (*parsed && to_string((*parsed)->prefix) == "10.96.0.10/32")));
    }
    auto impossible = route(RTN_LOCAL, RT_TABLE_LOCAL, 33);
    CHECK_FALSE(parse_local_route(impossible.message()));
}
