// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/ipset.hpp"

#include <algorithm>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <thread>

#include "fresh_netns.hpp"
#include "state/kube_sets.hpp"

using namespace hptrace;

namespace {

SetMember member(const char* ip, std::uint16_t port, Protocol protocol) {
    return {.ip = parse_address(ip), .port = port, .protocol = std::to_underlying(protocol)};
}

SetQuery query(const char* endpoint, Protocol protocol = Protocol::tcp) {
    return {.address = parse_endpoint(endpoint).value(), .protocol = protocol};
}

const IpSet* find(const std::vector<IpSet>& sets, std::string_view name) {
    const auto found = std::ranges::find(sets, name, &IpSet::name);
    return found == sets.end() ? nullptr : &*found;
}

void make_kube_sets() {
    run("ipset create KUBE-CLUSTER-IP hash:ip,port");
    run("ipset add KUBE-CLUSTER-IP 10.96.0.10,tcp:3306 && ipset add KUBE-CLUSTER-IP 10.96.0.53,udp:53");
    run("ipset create KUBE-6-CLUSTER-IP hash:ip,port family inet6");
    run("ipset add KUBE-6-CLUSTER-IP fd00:96::a,sctp:99");
    run("ipset create KUBE-NODE-PORT-TCP bitmap:port range 30000-32767 && ipset add KUBE-NODE-PORT-TCP 30306");
    run("ipset create KUBE-6-NODE-PORT-LOCAL-SCTP-HAS hash:ip,port family inet6");
    run("ipset add KUBE-6-NODE-PORT-LOCAL-SCTP-HAS fd00::1,sctp:30099");
    run("ipset create KUBE-LOAD-BALANCER hash:ip,port timeout 100 comment counters");
    run("ipset create KUBE-HEALTH-CHECK-NODE-PORT bitmap:port range 0-65535");
    run("ipset add KUBE-HEALTH-CHECK-NODE-PORT 30500 && ipset add KUBE-HEALTH-CHECK-NODE-PORT 30501");
    run("ipset create KUBE-IPVS-IPS hash:ip && ipset add KUBE-IPVS-IPS 10.96.0.10");
    run("ipset create KUBE-DST-SWAPPED hash:ip && ipset create blocklist hash:ip && ipset add blocklist 192.0.2.1");
}

}  // namespace

TEST_CASE("sets are asked about members, by what their types have", "[ipset]") {
    struct Answers {
        std::vector<IpSet> sets;
        std::vector<bool> cluster, cluster6, port, other_type, gone;
    };
    const auto answers = in_fresh_netns([] {
        make_kube_sets();
        auto kernel = KernelSets::open().value();
        Answers all{
            .sets =
                kernel.existing({"KUBE-CLUSTER-IP", "none", "KUBE-6-CLUSTER-IP", "KUBE-NODE-PORT-TCP", "KUBE-IPVS-IPS"})
                    .value(),
            .cluster = {},
            .cluster6 = {},
            .port = {},
            .other_type = {},
            .gone = {}};
        const auto ask = [&](std::string_view name, const std::vector<SetMember>& members) {
            return kernel.test(*find(all.sets, name), members).value();
        };
        all.cluster = ask("KUBE-CLUSTER-IP",
                          {member("10.96.0.53", 53, Protocol::tcp), member("10.96.0.10", 3306, Protocol::tcp),
                           member("10.96.0.11", 3306, Protocol::tcp), member("10.96.0.53", 53, Protocol::udp)});
        all.cluster6 = ask("KUBE-6-CLUSTER-IP", {member("fd00:96::a", 99, Protocol::sctp)});
        all.port = ask("KUBE-NODE-PORT-TCP",
                       {member("192.0.2.1", 30306, Protocol::tcp), member("192.0.2.1", 30307, Protocol::tcp),
                        member("192.0.2.1", 80, Protocol::tcp)});  // outside its range
        all.other_type = ask("KUBE-IPVS-IPS", {member("10.96.0.10", 3306, Protocol::tcp)});
        run("ipset destroy KUBE-CLUSTER-IP");
        all.gone = ask("KUBE-CLUSTER-IP", {member("10.96.0.10", 3306, Protocol::tcp)});
        return all;
    });
    REQUIRE(answers.sets.size() == 4);
    CHECK(find(answers.sets, "none") == nullptr);
    CHECK(find(answers.sets, "KUBE-CLUSTER-IP")->type == "hash:ip,port");
    CHECK(find(answers.sets, "KUBE-NODE-PORT-TCP")->type == "bitmap:port");
    CHECK(answers.cluster == std::vector{false, true, false, true});
    CHECK(answers.cluster6 == std::vector{true});
    CHECK(answers.port == std::vector{true, false, false});
    CHECK(answers.other_type == std::vector{false});
    CHECK(answers.gone == std::vector{false});
}

TEST_CASE("kube-proxy's sets tell the kinds of what is served", "[ipset]") {
    const auto sets = in_fresh_netns([] {
        make_kube_sets();
        return read_kube_sets(
                   {.served = {query("10.96.0.10:3306"), query("10.96.0.53:53", Protocol::udp),
                               query("192.0.2.1:30306"), query("192.0.2.1:30307"),
                               query("[fd00:96::a]:99", Protocol::sctp), query("[fd00::1]:30099", Protocol::sctp)},
                    .hostport_ports = {query("0.0.0.0:80").address, query("0.0.0.0:30501").address}})
            .value();
    });
    CHECK(sets.size() == 6);  // those that were asked, whether they have something or not
    const auto kind = [&sets](const SetQuery& service) { return kind_of_service(sets, service); };
    CHECK(kind(query("10.96.0.10:3306"))->kind == ServiceKind::cluster_ip);
    CHECK(kind(query("10.96.0.53:53", Protocol::udp))->kind == ServiceKind::cluster_ip);
    CHECK_FALSE(kind(query("10.96.0.53:53")));
    CHECK(kind(query("192.0.2.1:30306"))->kind == ServiceKind::node_port);
    CHECK_FALSE(kind(query("192.0.2.1:30306"))->external_local);
    CHECK_FALSE(kind(query("192.0.2.1:30307")));
    CHECK(kind(query("[fd00:96::a]:99", Protocol::sctp))->kind == ServiceKind::cluster_ip);
    CHECK(kind(query("[fd00::1]:30099", Protocol::sctp))->external_local);  // its name is cut off
    CHECK(health_check_ports(sets, Family::ipv4) == std::vector<std::uint16_t>{30501});
    CHECK(health_check_ports(sets, Family::ipv6).empty());
}

TEST_CASE("as many questions as there are Services", "[ipset]") {
    constexpr int services = 5000;
    std::vector<SetQuery> served;
    for (int i = 0; i < services; ++i) {
        served.push_back(query(("10.96." + std::to_string(i / 250) + "." + std::to_string(i % 250) + ":80").c_str()));
    }
    const auto sets = in_fresh_netns([&] {
        // Every second one is in the set: the others have an answer each.
        run("(echo create KUBE-CLUSTER-IP hash:ip,port; i=0; while [ $i -lt 5000 ]; do "
            "echo add KUBE-CLUSTER-IP 10.96.$((i / 250)).$((i % 250)),tcp:80; i=$((i + 2)); done) | ipset restore");
        return read_kube_sets({.served = served, .hostport_ports = {}}).value();
    });
    REQUIRE(sets.size() == 1);
    CHECK(sets.front().members.size() == services / 2);
    CHECK(kind_of_service(sets, query("10.96.0.2:80")));
    CHECK_FALSE(kind_of_service(sets, query("10.96.0.3:80")));
}

TEST_CASE("nobody's swap of sets fails because they are read", "[ipset]") {
    constexpr int swaps = 10'000;
    std::string failed;
    int reads = 0;
    in_fresh_netns([&] {
        run("(echo create KUBE-CLUSTER-IP hash:ip,port; echo create KUBE-T hash:ip,port; i=0; "
            "while [ $i -lt 5000 ]; do "
            "echo add KUBE-CLUSTER-IP 10.96.$((i / 250)).$((i % 250)),tcp:80; i=$((i + 1)); done) | ipset restore");
        std::atomic<bool> done = false;
        std::thread swapper([&] {
            try {
                run("yes swap KUBE-CLUSTER-IP KUBE-T | head -n " + std::to_string(swaps) + " | ipset restore");
            } catch (const std::exception& error) {
                failed = error.what();
            }
            done = true;
        });
        do {
            std::vector<SetQuery> served(1000, query("10.96.0.10:80"));
            reads += read_kube_sets({.served = served, .hostport_ports = {}}) ? 1 : 0;
        } while (!done);
        swapper.join();
        return true;
    });
    CHECK(failed.empty());  // ipset stops at the first that fails
    CHECK(reads > 0);
}

TEST_CASE("no sets is no error", "[ipset]") {
    const KubeSetQuestion question{.served = {query("10.96.0.10:80")}, .hostport_ports = {}};
    const auto sets = in_fresh_netns([&] { return read_kube_sets(question); });
    REQUIRE(sets);
    CHECK(sets->empty());
}
