// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/address_watch.hpp"

#include <catch2/catch_test_macros.hpp>
#include <string>
#include <vector>

#include "fresh_netns.hpp"

using namespace hptrace;

namespace {

// The kernel adds the route a little later than the address.
const std::string add_ipv6_address =
    "ip -6 addr add 2001:db8::7/128 dev lo nodad && "
    "until ip -6 route show table local | grep -q 2001:db8::7; do sleep 0.01; done";

// Whether each command, one after the other in a namespace of its own, was noticed.
std::vector<bool> noticed(const std::vector<std::string>& commands, int receive_buffer = 0) {
    return in_fresh_netns([&] {
        auto watch = AddressWatch::open(receive_buffer).value();
        std::vector<bool> seen;
        for (const auto& command : commands) {
            run(command);
            seen.push_back(watch.changed());
            seen.push_back(watch.changed());
        }
        return seen;
    });
}

}  // namespace

TEST_CASE("addresses that come and go are noticed, once", "[address_watch]") {
    CHECK(noticed({"ip link set lo up", "ip addr add 192.0.2.7/32 dev lo", "ip addr del 192.0.2.7/32 dev lo",
                   add_ipv6_address, "ip route add local 198.51.100.0/24 dev lo"}) ==
          std::vector{true, false, true, false, true, false, true, false, true, false});
}

TEST_CASE("devices that go or get another name are noticed", "[address_watch]") {
    // The kernel announces some of what it does to a device later: only that there is something counts.
    const auto seen =
        noticed({"ip link add kube-ipvs0 type veth peer name peer", "ip addr add 10.96.0.10/32 dev kube-ipvs0",
                 "ip link set kube-ipvs0 name other", "ip link del other"});
    for (std::size_t i = 0; i < seen.size(); i += 2) {
        CHECK(seen[i]);
    }
}

TEST_CASE("other tables' routes are none of its business", "[address_watch]") {
    CHECK(noticed({"ip link set lo up", "ip route add blackhole 203.0.113.0/24",
                   "ip route del blackhole 203.0.113.0/24", "ip -6 route add blackhole 2001:db8:1::/48"}) ==
          std::vector{true, false, false, false, false, false, false, false});
}

TEST_CASE("announcements that were lost count as a change", "[address_watch]") {
    // Nothing of this concerns the local table, but there is no room for the announcements.
    CHECK(noticed({"ip link set lo up",
                   "for i in $(seq 1 200); do echo route add blackhole 203.0.113.$i; done | ip -batch -"},
                  1) == std::vector{true, false, true, false});
}
