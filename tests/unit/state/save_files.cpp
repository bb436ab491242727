// SPDX-License-Identifier: GPL-2.0-or-later
// What ipvsadm-save, ipset save and ip print.
#include "state/save_files.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

#include "rules.hpp"

using namespace hptrace;

namespace {

Endpoint end(const char* text) {
    return parse_endpoint(text).value();
}

template <class T>
std::string error_of(const Result<T>& result) {
    return result ? "understood" : describe(result.error());
}

std::string ipvs_error(const std::string& text) {
    return error_of(parse_ipvs_save(text));
}

std::string ipset_error(const std::string& text) {
    return error_of(parse_ipset_save(text, "KUBE-"));
}

}  // namespace

TEST_CASE("virtual servers are read as ipvsadm-save -n prints them", "[dump]") {
    const auto servers = value_of(parse_ipvs_save(R"(-A -t 10.96.0.10:3306 -s rr
-a -t 10.96.0.10:3306 -r 10.244.1.9:3306 -m -w 1
-a -t 10.96.0.10:3306 -r 10.244.1.5:3306 -m -w 0
-A -t 10.96.0.1:443 -s rr -p 10800 -M 255.255.255.255
-A -u 10.96.0.53:53 -s mh -b flag-1,flag-2
-a -u 10.96.0.53:53 -r 10.244.1.6:53 -g -w 1 --tun-type ipip
-A --sctp-service [fd00:10:96::a]:99 -s rr -p 600 -M 128
-a --sctp-service [fd00:10:96::a]:99 -r [fd00:10:244::9]:99 -m -w 1
-A -f 7 -s wlc
-a -f 7 -r 10.0.0.1:0 -g -w 1
-A -f 8 -6 -s rr
-a -f 8 -6 -r [fd00::1]:0 -g -w 1
-A -t 192.0.2.1:0 -s rr -p 300
-a -t 192.0.2.1:0 -r 10.0.0.2:0 -m -w 1
)"));
    REQUIRE(servers.size() == 7);
    CHECK(servers[0].family == Family::ipv4);
    CHECK(servers[0].protocol == 6);
    CHECK(servers[0].address == end("10.96.0.10:3306"));
    CHECK(servers[0].fwmark == 0);
    CHECK_FALSE(servers[0].persistent);
    CHECK(servers[0].real_servers == std::vector{end("10.244.1.5:3306"), end("10.244.1.9:3306")});
    CHECK(servers[1].persistent);
    CHECK(servers[1].real_servers.empty());
    CHECK(servers[2].protocol == 17);
    CHECK(servers[2].real_servers == std::vector{end("10.244.1.6:53")});
    CHECK(servers[3].family == Family::ipv6);
    CHECK(servers[3].protocol == 132);
    CHECK(servers[3].persistent);
    CHECK(servers[3].real_servers == std::vector{end("[fd00:10:244::9]:99")});
    // What can be no Service has no real servers, as in the kernel's answer.
    CHECK(servers[4].fwmark == 7);
    CHECK(servers[4].protocol == 0);
    CHECK(servers[4].real_servers.empty());
    CHECK(servers[5].family == Family::ipv6);
    CHECK(servers[6].address == end("192.0.2.1:0"));
    CHECK(servers[6].real_servers.empty());
    CHECK(value_of(parse_ipvs_save("")).empty());
}

TEST_CASE("what ipvsadm-save does not print is refused, with the line", "[dump]") {
    CHECK(ipvs_error("-A -t web:http -s rr\n") == "line 1: bad virtual server 'web:http' (save with ipvsadm-save -n)");
    CHECK(ipvs_error("-A -t 10.96.0.10:3306 -s rr\n-a -t 10.96.0.10:3306 -r 10.244.1.5:m -m\n") ==
          "line 2: bad real server '10.244.1.5:m' (save with ipvsadm-save -n)");
    CHECK(ipvs_error("-A -t 10.96.0.10:99999999999999999999 -s rr\n").starts_with("line 1: bad virtual server"));
    CHECK(ipvs_error("-A -t") == "line 1: bad virtual server '' (save with ipvsadm-save -n)");
    CHECK(ipvs_error("-A -s rr\n") == "line 1: no virtual server in it");
    CHECK(ipvs_error("-A -f 99999999999\n") == "line 1: bad firewall mark '99999999999'");
    CHECK(ipvs_error("-a -t 10.96.0.10:3306 -r 10.244.1.5:3306 -m\n") ==
          "line 1: a real server of another virtual server than the one before");
    CHECK(ipvs_error("-A -t 10.96.0.10:3306\n-a -t 10.96.0.10:3306\n") == "line 2: no real server in it");
    CHECK(ipvs_error("IP Virtual Server version 1.2.1\n") ==
          "line 1: not what ipvsadm-save prints: 'IP Virtual Server version 1.2.1'");
}

TEST_CASE("sets are read from ipset save as from the kernel", "[dump]") {
    const auto [native, sets, printed] = in_fresh_netns([] {
        run("ipset create KUBE-CLUSTER-IP hash:ip,port");
        run("ipset add KUBE-CLUSTER-IP 10.96.0.10,tcp:3306 && ipset add KUBE-CLUSTER-IP 10.96.0.53,udp:53");
        run("ipset create KUBE-6-CLUSTER-IP hash:ip,port family inet6");
        run("ipset add KUBE-6-CLUSTER-IP fd00:96::a,sctp:99");
        run("ipset create KUBE-NODE-PORT-TCP bitmap:port range 0-65535");
        run("ipset add KUBE-NODE-PORT-TCP 30306-30308");
        run("ipset create KUBE-LOOP-BACK hash:ip,port,ip && ipset add KUBE-LOOP-BACK 10.1.1.1,tcp:80,10.1.1.2");
        run("ipset create KUBE-LOAD-BALANCER hash:ip,port timeout 100 comment counters");
        run("ipset add KUBE-LOAD-BALANCER 10.0.0.1,udp:1 comment 'a b c' timeout 9999");
        run("ipset create KUBE-LOAD-BALANCER-SOURCE-CIDR hash:ip,port,net");
        run("ipset add KUBE-LOAD-BALANCER-SOURCE-CIDR 10.0.0.1,tcp:1,10.0.0.0/8");
        run("ipset create KUBE-IPVS-IPS hash:ip && ipset add KUBE-IPVS-IPS 10.96.0.10");
        run("ipset create blocklist hash:net && ipset add blocklist 192.0.2.0/24");
        auto text = output_of("ipset save");
        auto parsed = value_of(parse_ipset_save(text, "KUBE-"));
        auto kernel = value_of(KernelSets::open());
        std::vector<std::string> names;
        std::ranges::transform(parsed, std::back_inserter(names), &IpSet::name);
        auto asked = value_of(kernel.existing(names));
        for (std::size_t i = 0; i < asked.size(); ++i) {
            const auto in_it = value_of(kernel.test(asked[i], parsed[i].members));
            for (std::size_t m = 0; m < in_it.size(); ++m) {
                if (in_it[m]) {
                    asked[i].members.push_back(parsed[i].members[m]);
                }
            }
        }
        return std::tuple(std::move(asked), std::move(parsed), std::move(text));
    });
    INFO(printed);
    REQUIRE(sets.size() == 7);
    REQUIRE(native.size() == sets.size());
    for (std::size_t i = 0; i < sets.size(); ++i) {
        INFO(sets[i].name);
        CHECK(native[i].type == sets[i].type);
        const bool asked = sets[i].type == "hash:ip,port" || sets[i].type == "bitmap:port";  // others mean nothing here
        CHECK(native[i].members == (asked ? sets[i].members : std::vector<SetMember>{}));
    }
}

TEST_CASE("what ipset save does not print is refused, with the line", "[dump]") {
    CHECK(ipset_error("create KUBE-A hash:ip,port family inet\nadd KUBE-A 10.0.0.1\n") ==
          "line 2: '10.0.0.1' is no member of a hash:ip,port");
    CHECK(ipset_error("create KUBE-A hash:ip,port\nadd KUBE-A 10.0.0.1,tcp:65536\n") ==
          "line 2: '10.0.0.1,tcp:65536' is no member of a hash:ip,port");
    CHECK(ipset_error("create KUBE-A hash:ip\nadd KUBE-A x\n") == "line 2: 'x' is no member of a hash:ip");
    CHECK(ipset_error("add KUBE-A 10.0.0.1\n") == "line 1: a member of set KUBE-A, which was not created");
    CHECK(ipset_error("create KUBE-A hash:ip\ncreate KUBE-A hash:ip\n") == "line 2: set KUBE-A is there twice");
    CHECK(ipset_error("create KUBE-A\n") == "line 1: not what ipset save prints: 'create KUBE-A'");
    CHECK(ipset_error("Name: KUBE-A x\n") == "line 1: not what ipset save prints: 'Name: KUBE-A x'");
    CHECK(ipset_error("add other 00:11:22:33:44:55\n") == "understood");
}

TEST_CASE("local routes and addresses are read as ip -j prints them", "[dump]") {
    const auto routes = value_of(parse_local_routes(
        R"([{"type":"local","dst":"127.0.0.0/8","dev":"lo","flags":[]},
            {"type":"broadcast","dst":"10.0.0.255","dev":"eth0"},{"type":"local","dst":"10.0.0.1","dev":"eth0"},
            {"type":"anycast","dst":"fd00::","dev":"eth0"},{"type":"local","dst":"fd00::1","dev":"eth0"}])"));
    REQUIRE(routes.size() == 3);
    CHECK(to_string(routes[0].prefix) == "127.0.0.0/8");
    CHECK(routes[0].device == "lo");
    CHECK(to_string(routes[1].prefix) == "10.0.0.1/32");
    CHECK(to_string(routes[2].prefix) == "fd00::1/128");
    const auto addresses = value_of(parse_addresses(
        R"([{},{"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8},{}]},
            {"ifname":"kube-ipvs0","addr_info":[{"family":"inet6","local":"fd00::a","prefixlen":128}]}])"));
    REQUIRE(addresses.size() == 2);
    CHECK(to_string(addresses[0].prefix) == "127.0.0.1/32");
    CHECK(addresses[1].device == "kube-ipvs0");

    CHECK(error_of(parse_local_routes("[{\"type\":\"local\",\n\"dst\":")) == "line 2: not JSON, or cut off");
    CHECK(error_of(parse_local_routes("{}")) == "not an array, as ip -j prints");
    CHECK(error_of(parse_local_routes(R"([{"dst":"10.0.0.0/8","dev":"eth0"}])")) ==
          "a route without a type: not the local table?");
    CHECK(error_of(parse_local_routes(R"([{"type":"local","dst":"default"}])")) ==
          "bad destination of a route 'default'");
    CHECK(error_of(parse_addresses(R"([{"addr_info":[{"local":"x"}]}])")) == "bad address 'x'");
}
