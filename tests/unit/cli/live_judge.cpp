// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/live_judge.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include "cli/fake_node.hpp"

using namespace hptrace;
using namespace hptrace::test;

TEST_CASE("a hijack is judged and named by the state it was made under") {
    FakeNode node;
    auto history = node.history();
    LiveJudge judge(history);
    const auto finding = judged(judge, node.taken());
    CHECK(finding.verdict == Verdict::hijacked);
    CHECK(finding.rule_pod == Pod{"default", "mysql-b-0"});
    CHECK(node.reads == 1);
}

TEST_CASE("what the Kubernetes API says counts from when it is there") {
    FakeNode node;
    auto history = node.history();
    ClusterNamesPtr known;
    LiveJudge judge(history, [&known] { return known; });
    CHECK_FALSE(judged(judge, node.taken()).service->name);
    auto names = std::make_shared<ClusterNames>();
    names->services.add(end("10.96.0.10:3306"), Protocol::tcp, {"default", "mysql-a", ""});
    names->services.finish();
    known = names;
    CHECK(judged(judge, node.taken()).service->name == ServiceName{"default", "mysql-a", ""});
}

TEST_CASE("a hijack that only one neighbour knows is unsettled, with the state before it settled") {
    FakeNode node;
    node.content.hostports.clear();
    auto history = node.history();
    LiveJudge judge(history);
    history.refresh();
    // The pod comes: two changes, the connection is made after the first.
    node.content = ipvs_node(Backend::iptables_nft);
    node.change(HPTRACE_SOURCE_NFTABLES);
    const auto between = node.taken();
    node.change(HPTRACE_SOURCE_NFTABLES);
    CHECK(judged(judge, between).verdict == Verdict::unsettled);
    CHECK(judged(judge, node.taken()).verdict == Verdict::hijacked);
    CHECK(node.reads == 2);
}

TEST_CASE("an endpoint that came and went between two reads is no alarm") {
    FakeNode node;
    node.content = iptables_node(Backend::iptables_nft);
    auto history = node.history();
    LiveJudge judge(history);
    history.refresh();
    const auto led_elsewhere = [&node] {
        auto made = connection("10.96.0.10:3306", "10.224.1.99:3306");
        made.changes = node.changes;
        made.boot_ns = node.now++;
        return made;
    };
    node.change(HPTRACE_SOURCE_XTABLES);  // it comes
    const auto to_new_endpoint = led_elsewhere();
    node.change(HPTRACE_SOURCE_XTABLES);  // it goes
    CHECK(judged(judge, to_new_endpoint).verdict == Verdict::unsettled);
    // Under rules that are known there is no explanation to be had.
    CHECK(judged(judge, led_elsewhere()).verdict == Verdict::foreign);
}

TEST_CASE("with nothing to judge by that is not of the same change there is no alarm") {
    FakeNode node;
    ++node.changes.begin[HPTRACE_SOURCE_NFTABLES];
    auto history = node.history();
    LiveJudge judge(history);
    CHECK(judged(judge, node.taken()).verdict == Verdict::unsettled);
}

TEST_CASE("a connection made during a change waits for its end, but not for ever") {
    FakeNode node;
    auto history = node.history();
    LiveJudge judge(history);
    history.refresh();
    node.now += second;
    ++node.changes.begin[HPTRACE_SOURCE_XTABLES];
    judge.take(node.taken());
    CHECK(turn(judge).empty());
    CHECK(node.reads == 2);
    SECTION("it ends in time") {
        ++node.changes.end[HPTRACE_SOURCE_XTABLES];
        node.now += second / 2;
        const auto findings = turn(judge);
        REQUIRE(findings.size() == 1);
        CHECK(findings[0].verdict == Verdict::hijacked);
    }
    SECTION("it goes on") {
        node.now += 2 * second;
        const auto findings = turn(judge);
        REQUIRE(findings.size() == 1);
        CHECK(findings[0].verdict == Verdict::unsettled);
    }
}

TEST_CASE("a hijack is found where every read is overtaken by changes") {
    FakeNode node;
    node.changes_while_read = true;
    auto history = node.history();
    LiveJudge judge(history);
    history.refresh();
    node.change(HPTRACE_SOURCE_XTABLES);
    CHECK(judged(judge, node.taken()).verdict == Verdict::hijacked);
    node.content.hostports.clear();
    const auto after_the_rule = node.taken();
    CHECK(judged(judge, after_the_rule).verdict == Verdict::unsettled);
}

TEST_CASE("where changes are not counted, no alarm comes of a state from before them") {
    FakeNode node;
    node.tracked = 0;
    node.watched = false;
    node.incomplete = true;
    node.content.hostports.clear();
    auto history = node.history();
    LiveJudge judge(history);
    history.refresh();
    node.content = ipvs_node(Backend::iptables_nft);  // no counter tells
    judge.take(node.taken());
    CHECK(turn(judge).empty());  // it was read a moment ago
    node.now += second;
    auto findings = turn(judge);
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].verdict == Verdict::unsettled);  // who knows when it changed
    CHECK(node.reads == 2);
    node.now += second;
    judge.take(node.taken());
    findings = turn(judge);
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].verdict == Verdict::hijacked);
    CHECK(node.reads == 3);
    CHECK(judged(judge, node.served()).verdict == Verdict::ok);
    CHECK(node.reads == 3);
}

TEST_CASE("where a source announces nothing, an unexplained rewrite makes it read again, once a second at most") {
    FakeNode node;
    node.watched = false;
    node.content.hostports.clear();
    auto history = node.history();
    LiveJudge judge(history);
    history.refresh();
    node.content = ipvs_node(Backend::iptables_nft);  // nobody notices
    CHECK(judged(judge, node.taken()).verdict == Verdict::foreign);
    CHECK(node.reads == 1);
    node.now += second;
    // Who knows when it changed: both were made before the read.
    judge.take(node.taken());
    judge.take(node.taken());
    const auto findings = finish(judge);
    REQUIRE(findings.size() == 2);
    CHECK(findings[0].verdict == Verdict::unsettled);
    CHECK(findings[1].verdict == Verdict::unsettled);
    CHECK(node.reads == 2);
    CHECK(judged(judge, node.taken()).verdict == Verdict::hijacked);
    CHECK(node.reads == 2);

    node.now += 5 * second;
    CHECK(judged(judge, node.served()).verdict == Verdict::ok);
    CHECK(node.reads == 2);
}

TEST_CASE("a sandbox that is not in the cache yet is looked for once more") {
    FakeNode node;
    const auto sandboxes = node.content.sandboxes;
    node.content.sandboxes.erase(node.content.sandboxes.begin());
    auto history = node.history();
    LiveJudge judge(history);
    history.refresh();
    SECTION("it came") {
        node.content.sandboxes = sandboxes;
        const auto finding = judged(judge, node.taken());
        CHECK(finding.verdict == Verdict::hijacked);
        CHECK(finding.leftover == LeftOver::no);
        CHECK(finding.rule_pod == Pod{"default", "mysql-b-0"});
        CHECK(node.reads == 2);
    }
    SECTION("it does not come: looked for once only") {
        for (int i = 0; i < 3; ++i) {
            const auto finding = judged(judge, node.taken());
            CHECK(finding.verdict == Verdict::hijacked);
            CHECK(finding.leftover == LeftOver::perhaps);
        }
        CHECK(node.reads == 2);
    }
}

TEST_CASE("an existing connection is an alarm only if a state from after the dump agrees") {
    FakeNode node;
    auto history = node.history();
    LiveJudge judge(history);
    history.refresh();
    auto found = existing("10.96.0.10:3306", "10.224.0.222:3306");
    found.boot_ns = node.now + 1;
    node.now += 2;
    SECTION("it agrees") {
        CHECK(judged(judge, found).verdict == Verdict::hijacked);
        CHECK(judged(judge, found).verdict == Verdict::hijacked);
        CHECK(node.reads == 2);
    }
    SECTION("it does not") {
        node.content.services[0].endpoints = {end("10.224.0.222:3306")};
        CHECK(judged(judge, found).verdict == Verdict::unsettled);
        CHECK(judged(judge, found).verdict == Verdict::unsettled);
        CHECK(node.reads == 2);
    }
}

TEST_CASE("while nothing changes nothing is read") {
    FakeNode node;
    auto history = node.history();
    LiveJudge judge(history);
    history.refresh();
    for (int i = 0; i < 100; ++i) {
        node.now += second;
        judge.take(node.served());
        judge.take(node.taken());
        CHECK(turn(judge).size() == 2);
    }
    CHECK(node.reads == 1);
}

TEST_CASE("kube-proxy at work: connections to known endpoints cost one read a second") {
    FakeNode node;
    auto history = node.history();
    LiveJudge judge(history);
    history.refresh();
    std::size_t shown = 0;
    // Ten seconds of 50 changes and 5,000 connections a second, judged every 50 ms.
    for (int i = 0; i < 10'000; ++i) {
        node.now += millisecond;
        if (i % 20 == 0) {
            node.change(HPTRACE_SOURCE_IPVS);
        }
        for (int made = 0; made < 5; ++made) {
            judge.take(node.served());
        }
        if (i % 50 == 0) {
            for (const auto& finding : turn(judge)) {
                CHECK(finding.verdict == Verdict::ok);
                ++shown;
            }
        }
    }
    shown += finish(judge).size();
    CHECK(shown == 50'000);
    CHECK(node.reads >= 9);
    CHECK(node.reads <= 11);
}

TEST_CASE("hijacks while kube-proxy is at work are all found, in order, at a tenth of the time for reads") {
    FakeNode node;
    auto history = node.history();
    LiveJudge judge(history);
    const auto cost = GENERATE(1U, 30U, 400U);
    node.read_takes = cost * millisecond;
    node.changes_while_read = GENERATE(false, true);
    history.refresh();
    const auto begun = node.now;
    std::vector<Finding> findings;
    std::uint64_t longest = 0;
    const auto keep = [&](const std::vector<Finding>& judged_now) {
        for (const auto& finding : judged_now) {
            longest = std::max(longest, node.now - finding.connection.boot_ns);
            findings.push_back(finding);
        }
    };
    std::size_t made = 0;
    for (std::uint64_t next = 0; node.now - begun < 10 * second;) {
        node.now += 10 * millisecond;
        node.change(HPTRACE_SOURCE_XTABLES);
        judge.take(node.taken());
        judge.take(node.served());
        made += 2;
        if (node.now >= next) {
            keep(turn(judge));
            next = node.now + 50 * millisecond;
        }
    }
    const auto most = cost == 1 ? 100 : cost == 30 ? 33 : 11;
    CHECK(node.reads <= most);
    keep(finish(judge));
    REQUIRE(findings.size() == made);
    CHECK(longest <= second + 2 * node.read_takes + 50 * millisecond);
    for (std::size_t i = 0; i < findings.size(); ++i) {
        CHECK(findings[i].verdict == (i % 2 == 0 ? Verdict::hijacked : Verdict::ok));
        CHECK((i == 0 || findings[i - 1].connection.boot_ns < findings[i].connection.boot_ns));
    }
}

TEST_CASE("an endpoint that a HostPort rule leads to as well is not fine by an older state") {
    FakeNode node;
    node.content = iptables_node(Backend::iptables_legacy);
    node.content.services[0].endpoints = {end("10.224.0.222:3306")};
    node.content.hostports[0].local_only = node.content.hostports[0].local_only_output = false;
    auto history = node.history();
    LiveJudge judge(history);
    history.refresh();
    node.now += second;
    CHECK(judged(judge, node.taken()).verdict == Verdict::ok);
    CHECK(node.reads == 1);
    // The pod is taken out of the Service, and its rule takes the Service's connections.
    node.content.services[0].endpoints = {end("10.224.0.224:3306")};
    node.change(HPTRACE_SOURCE_XTABLES);
    CHECK(judged(judge, node.taken()).verdict == Verdict::hijacked);
    CHECK(node.reads == 2);
}

TEST_CASE("an announced change is read for an unexplained rewrite") {
    FakeNode node;
    auto service = node.content.services;
    auto history = node.history();
    LiveJudge judge(history);
    node.content.services.clear();
    history.refresh();
    node.now += second;
    judge.take(node.taken());
    REQUIRE(turn(judge).size() == 1);
    CHECK(node.reads == 1);
    node.content.services = service;
    node.announced = true;
    judge.take(node.taken());
    const auto findings = turn(judge);
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].verdict == Verdict::unsettled);
    CHECK(node.reads == 2);
    CHECK(judged(judge, node.taken()).verdict == Verdict::hijacked);
}

TEST_CASE("what nobody asks for is read again within a second of a change") {
    FakeNode node;
    auto history = node.history();
    LiveJudge judge(history);
    history.refresh();
    node.change(HPTRACE_SOURCE_NFTABLES);
    turn(judge);
    CHECK(node.reads == 1);
    node.now += second;
    turn(judge);
    CHECK(node.reads == 2);
    node.now += 10 * second;
    turn(judge);
    CHECK(node.reads == 2);
}

TEST_CASE("a finding says when the state it was judged by was read") {
    FakeNode node;
    auto history = node.history();
    LiveJudge judge(history);
    history.refresh();
    node.now += 5 * second;
    node.change(HPTRACE_SOURCE_NFTABLES);
    const auto made = node.taken();
    const auto finding = judged(judge, made);
    CHECK(finding.state_boot_ns == history.newest().boot_ns);
    CHECK(history.newest().boot_ns > made.boot_ns);
}

TEST_CASE("a state that is not kept fresh is read for what is judged by it, and for nothing else") {
    FakeNode node;
    node.kept_fresh = false;
    auto history = node.history();
    LiveJudge judge(history);
    CHECK(judged(judge, node.served()).verdict == Verdict::ok);
    CHECK(node.reads == 1);
    node.change(HPTRACE_SOURCE_NFTABLES);
    node.now += 100 * second;
    CHECK(turn(judge).empty());
    CHECK(node.reads == 1);
    // It may be hours old: what led to an endpoint then can be a hijack now.
    node.content.services[0].endpoints.clear();
    auto taken = node.taken();
    judge.take(taken);
    auto findings = turn(judge);
    REQUIRE(findings.size() == 1);
    CHECK(node.reads == 2);
    node.change(HPTRACE_SOURCE_IPVS);
    node.now += 100 * second;
    judge.take(node.served());
    CHECK(turn(judge).size() == 1);
    CHECK(node.reads == 3);
    CHECK(judge.idle());
}
