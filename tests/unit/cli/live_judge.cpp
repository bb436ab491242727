// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/live_judge.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <optional>
#include <utility>

#include "cli/fake_node.hpp"

using namespace hptrace;
using namespace hptrace::test;

TEST_CASE("a hijack is judged and named by the state it was made under") {
    FakeNode node;
    const auto finding = judged(node, node.taken());
    CHECK(finding.verdict == Verdict::hijacked);
    CHECK(finding.rule_pod == Pod{"default", "mysql-b-0"});
    CHECK(node.reads == 1);
}

TEST_CASE("what the Kubernetes API says counts from when it is there") {
    FakeNode node;
    ClusterNamesPtr known;
    node.cluster = [&known] { return known; };
    CHECK_FALSE(judged(node, node.taken()).service->name);
    auto names = std::make_shared<ClusterNames>();
    names->services.add(end("10.96.0.10:3306"), Protocol::tcp, {"default", "mysql-a", ""});
    names->services.finish();
    known = names;
    CHECK(judged(node, node.taken()).service->name == ServiceName{"default", "mysql-a", ""});
}

TEST_CASE("a hijack that only one neighbour knows is unsettled, with the state before it settled") {
    FakeNode node;
    node.content.hostports.clear();
    node.read();
    // The pod comes: two changes, the connection is made after the first.
    node.content = ipvs_node(Backend::iptables_nft);
    node.change(HPTRACE_SOURCE_NFTABLES);
    const auto between = node.taken();
    node.change(HPTRACE_SOURCE_NFTABLES);
    CHECK(judged(node, between).verdict == Verdict::unsettled);
    CHECK(judged(node, node.taken()).verdict == Verdict::hijacked);
    CHECK(node.reads == 2);
}

TEST_CASE("an endpoint that came and went between two reads is no alarm") {
    FakeNode node;
    node.content = iptables_node(Backend::iptables_nft);
    node.read();
    const auto led_elsewhere = [&node] {
        auto made = connection("10.96.0.10:3306", "10.224.1.99:3306");
        made.changes = node.changes;
        made.boot_ns = node.now++;
        return made;
    };
    node.change(HPTRACE_SOURCE_XTABLES);  // it comes
    const auto to_new_endpoint = led_elsewhere();
    node.change(HPTRACE_SOURCE_XTABLES);  // it goes
    CHECK(judged(node, to_new_endpoint).verdict == Verdict::unsettled);
    // Under rules that are known there is no explanation to be had.
    CHECK(judged(node, led_elsewhere()).verdict == Verdict::foreign);
}

TEST_CASE("with nothing to judge by that is not of the same change there is no alarm") {
    FakeNode node;
    ++node.changes.begin[HPTRACE_SOURCE_NFTABLES];
    CHECK(judged(node, node.taken()).verdict == Verdict::unsettled);
}

TEST_CASE("a connection made during a change waits for its end, but not for ever") {
    FakeNode node;
    node.read();
    node.now += second;
    ++node.changes.begin[HPTRACE_SOURCE_XTABLES];
    node.judge().take(node.taken());
    CHECK(turn(node).empty());
    CHECK(node.reads == 2);
    SECTION("it ends in time") {
        ++node.changes.end[HPTRACE_SOURCE_XTABLES];
        node.now += second / 2;
        const auto findings = turn(node);
        REQUIRE(findings.size() == 1);
        CHECK(findings[0].verdict == Verdict::hijacked);
    }
    SECTION("it goes on") {
        node.now += 2 * second;
        const auto findings = turn(node);
        REQUIRE(findings.size() == 1);
        CHECK(findings[0].verdict == Verdict::unsettled);
    }
}

TEST_CASE("a hijack is found where every read is overtaken by changes") {
    FakeNode node;
    node.changes_while_read = true;
    node.read();
    node.change(HPTRACE_SOURCE_XTABLES);
    CHECK(judged(node, node.taken()).verdict == Verdict::hijacked);
    node.content.hostports.clear();
    const auto after_the_rule = node.taken();
    CHECK(judged(node, after_the_rule).verdict == Verdict::unsettled);
}

TEST_CASE("where changes are not counted, no alarm comes of a state from before them") {
    FakeNode node;
    node.tracked = 0;
    node.watched = false;
    node.incomplete = true;
    node.content.hostports.clear();
    node.read();
    node.read();
    node.content = ipvs_node(Backend::iptables_nft);  // no counter tells
    node.judge().take(node.taken());
    CHECK(turn(node).empty());  // it was read a moment ago
    node.now += second;
    auto findings = turn(node);
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].verdict == Verdict::unsettled);  // who knows when it changed
    CHECK(node.reads == 3);
    node.now += second;
    node.judge().take(node.taken());
    findings = turn(node);
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].verdict == Verdict::hijacked);
    CHECK(node.reads == 4);
    // Nor does it tell of any other verdict.
    CHECK(judged(node, node.served()).verdict == Verdict::ok);
    CHECK(node.reads == 5);
}

TEST_CASE("where a source announces nothing, an unexplained rewrite makes it read again, once a second at most") {
    FakeNode node;
    node.watched = false;
    node.content.hostports.clear();
    node.read();
    node.content = ipvs_node(Backend::iptables_nft);  // nobody notices
    CHECK(judged(node, node.taken()).verdict == Verdict::foreign);
    CHECK(node.reads == 1);
    node.now += second;
    // Who knows when it changed: both were made before the read.
    node.judge().take(node.taken());
    node.judge().take(node.taken());
    const auto findings = finish(node);
    REQUIRE(findings.size() == 2);
    CHECK(findings[0].verdict == Verdict::unsettled);
    CHECK(findings[1].verdict == Verdict::unsettled);
    CHECK(node.reads == 2);
    CHECK(judged(node, node.taken()).verdict == Verdict::hijacked);
    CHECK(node.reads == 2);

    node.now += 4 * second;
    CHECK(judged(node, node.served()).verdict == Verdict::ok);
    CHECK(node.reads == 2);
    CHECK_FALSE(node.due());  // nothing was announced, which says nothing of what is not
    node.now += 2 * second;
    CHECK(judged(node, node.served()).verdict == Verdict::ok);
    CHECK(node.reads == 3);
}

TEST_CASE("a sandbox that is not in the cache yet is looked for once more") {
    FakeNode node;
    const auto sandboxes = node.content.sandboxes;
    node.content.sandboxes.erase(node.content.sandboxes.begin());
    node.read();
    SECTION("it came") {
        node.content.sandboxes = sandboxes;
        const auto finding = judged(node, node.taken());
        CHECK(finding.verdict == Verdict::hijacked);
        CHECK(finding.leftover == LeftOver::no);
        CHECK(finding.rule_pod == Pod{"default", "mysql-b-0"});
        CHECK(node.reads == 2);
    }
    SECTION("it does not come: looked for once only") {
        for (int i = 0; i < 3; ++i) {
            const auto finding = judged(node, node.taken());
            CHECK(finding.verdict == Verdict::hijacked);
            CHECK(finding.leftover == LeftOver::perhaps);
        }
        CHECK(node.reads == 2);
    }
}

TEST_CASE("an existing connection is an alarm only if a state from after the dump agrees") {
    FakeNode node;
    node.read();
    auto found = existing("10.96.0.10:3306", "10.224.0.222:3306");
    found.boot_ns = node.now + 1;
    node.now += 2;
    SECTION("it agrees") {
        CHECK(judged(node, found).verdict == Verdict::hijacked);
        CHECK(judged(node, found).verdict == Verdict::hijacked);
        CHECK(node.reads == 2);
    }
    SECTION("it does not") {
        node.content.services[0].endpoints = {end("10.224.0.222:3306")};
        CHECK(judged(node, found).verdict == Verdict::unsettled);
        CHECK(judged(node, found).verdict == Verdict::unsettled);
        CHECK(node.reads == 2);
    }
}

TEST_CASE("while nothing changes nothing is read") {
    FakeNode node;
    node.read();
    for (int i = 0; i < 100; ++i) {
        node.now += second;
        node.judge().take(node.served());
        node.judge().take(node.taken());
        CHECK(turn(node).size() == 2);
    }
    CHECK(node.reads == 1);
}

namespace {

// A trace that goes on while the node is read by another thread, in steps of a millisecond.
class Running {
public:
    explicit Running(FakeNode& node) : node_(node), judge_(node.history()) { node.read(); }

    LiveJudge& judge() { return judge_; }

    void step() {
        node_.now += millisecond;
        auto& history = node_.history();
        if (reading_ && node_.now >= reading_->boot_ns + node_.read_takes) {
            reading_->changes_after = node_.changes;
            history.add(*std::exchange(reading_, std::nullopt));
        }
        if (grace_over_ != 0 && node_.now >= grace_over_) {
            history.grace_over(node_.now);
            grace_over_ = 0;
        }
        if (node_.now < next_) {
            return;
        }
        next_ = node_.now + 12 * millisecond;
        if (history.wants_grace()) {
            history.grace_begins();
            grace_over_ = node_.now + 30 * millisecond;
        }
        judge_.judge([this](const Finding& finding) {
            latest_ = std::max(latest_, node_.now - finding.connection.boot_ns);
            findings_.push_back(finding);
        });
        if (const auto question = std::exchange(node_.asked, std::nullopt); question == StateHistory::Question::state) {
            reading_ = node_.begin_read();
        } else if (question) {
            history.nothing_new(node_.now);
        }
    }

    [[nodiscard]] const std::vector<Finding>& findings() const { return findings_; }
    // The longest time from a decision to its verdict.
    [[nodiscard]] std::uint64_t latest() const { return latest_; }

private:
    FakeNode& node_;
    LiveJudge judge_;
    std::optional<StateRead> reading_;
    std::uint64_t grace_over_ = 0;
    std::uint64_t next_ = 0;
    std::vector<Finding> findings_;
    std::uint64_t latest_ = 0;
};

}  // namespace

TEST_CASE("50 changes a second for a minute: every connection is told within two seconds, and as what it is") {
    FakeNode node;
    node.graces = true;
    const auto cost = GENERATE(1U, 100U, 400U, 700U, 1500U, 13'000U);
    node.read_takes = cost * millisecond;
    Running trace(node);
    std::size_t made = 0;
    for (int i = 0; i < 60'000; ++i) {
        trace.step();
        if (i % 20 == 0) {
            node.change(i % 40 == 0 ? HPTRACE_SOURCE_NFTABLES : HPTRACE_SOURCE_XTABLES);
        }
        if (i % 100 == 7) {
            trace.judge().take(node.taken());
            trace.judge().take(node.served());
            made += 2;
        }
    }
    for (int i = 0; i < 2000; ++i) {
        trace.step();
    }
    REQUIRE(trace.findings().size() == made);
    CHECK(trace.latest() <= 2 * second);
    // Where reading takes longer than a decision may wait, some have no state after them; those have no verdict.
    const auto readable = cost <= 700;
    std::size_t unsettled = 0;
    for (std::size_t i = 0; i < made; ++i) {
        const auto verdict = trace.findings()[i].verdict;
        const bool settled = verdict == (i % 2 == 0 ? Verdict::hijacked : Verdict::ok);
        CHECK((settled || verdict == Verdict::unsettled));
        unsettled += settled ? 0 : 1;
    }
    // Before the first grace period nothing is certain.
    CHECK((!readable || unsettled <= 2));
    CHECK(node.reads < 62'000 / 100);
}

TEST_CASE("a hijack is never called ok by a state from before the rule, whatever a read costs") {
    FakeNode node;
    node.content = iptables_node(Backend::iptables_nft);
    node.content.hostports.clear();
    node.content.local_addresses.push_back(local("10.96.0.10/32", "lo"));
    node.content.services[0].endpoints = {end("10.224.0.222:3306")};
    node.read_takes = GENERATE(1U, 300U, 2800U, 12'000U) * millisecond;
    Running trace(node);
    // At once after the read the endpoint's pod goes, and its address is given to another pod with hostPort 3306.
    node.content.services[0].endpoints = {end("10.224.0.224:3306")};
    node.content.hostports = {hostport(Backend::iptables_nft)};
    node.change(HPTRACE_SOURCE_NFTABLES);
    for (int i = 0; i < 60'000; ++i) {
        trace.step();
        if (i % 1000 == 0) {
            trace.judge().take(node.taken());
        }
    }
    CHECK(trace.findings().size() >= 57);
    CHECK(trace.latest() <= 2 * second);
    for (const auto& finding : trace.findings()) {
        CHECK((finding.verdict == Verdict::hijacked || finding.verdict == Verdict::unsettled));
    }
    CHECK(trace.findings().back().verdict == Verdict::hijacked);
}

TEST_CASE("without a state after it nothing is told but that, neither ok nor harmless") {
    FakeNode node;
    node.read();
    node.change(HPTRACE_SOURCE_NFTABLES);
    node.judge().take(node.served());
    auto plain = connection("192.168.0.2:3306", "10.224.0.222:3306");
    plain.changes = node.changes;
    plain.boot_ns = node.now;
    node.judge().take(plain);
    std::vector<Finding> findings;
    const auto keep = [&findings](const Finding& finding) { findings.push_back(finding); };
    node.judge().judge(keep);
    node.now += StateHistory::longest_wait_ns - second / 2;
    node.judge().judge(keep);
    CHECK(findings.empty());
    node.now += second / 2;
    node.judge().judge(keep);
    REQUIRE(findings.size() == 2);
    CHECK(findings[0].verdict == Verdict::unsettled);
    CHECK(findings[1].verdict == Verdict::unsettled);
}

TEST_CASE("what the trace came to late still gets a state from after it") {
    FakeNode node;
    node.read();
    node.change(HPTRACE_SOURCE_NFTABLES);
    auto late = node.taken();
    node.now += 3 * second;  // probes were attached meanwhile
    node.judge().take(late);
    std::vector<Finding> findings;
    const auto keep = [&findings](const Finding& finding) { findings.push_back(finding); };
    node.judge().judge(keep);
    CHECK(findings.empty());
    node.read();
    node.judge().judge(keep);
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].verdict == Verdict::hijacked);
    node.change(HPTRACE_SOURCE_NFTABLES);
    late = node.taken();
    node.now += 3 * second;
    node.judge().take(late);
    node.now += second;  // and there it ends
    node.judge().judge(keep);
    REQUIRE(findings.size() == 2);
    CHECK(findings[1].verdict == Verdict::unsettled);
}

TEST_CASE("a namespace that was never read is unknown, one that was is not") {
    FakeNode node;
    auto& history = node.history();
    std::vector<Finding> findings;
    const auto keep = [&findings](const Finding& finding) { findings.push_back(finding); };
    node.judge().take(node.taken());
    node.now += 2 * second;
    node.judge().judge(keep);
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].verdict == Verdict::unknown);
    node.read();
    node.change(HPTRACE_SOURCE_NFTABLES);
    node.judge().take(node.taken());
    node.judge().judge(keep);
    history.unreadable();
    node.now += 2 * second;
    node.judge().judge(keep);
    REQUIRE(findings.size() == 2);
    CHECK(findings[1].verdict == Verdict::unsettled);
}

TEST_CASE("every ruleset that a packet may have met has to agree on an alarm") {
    FakeNode node;
    node.graces = true;
    auto& history = node.history();
    history.grace_begins();
    history.grace_over(node.now++);
    node.read();
    // For a moment the pod was an endpoint of the Service.
    auto endpoints = std::exchange(node.content.services[0].endpoints, {end("10.224.0.222:3306")});
    node.change(HPTRACE_SOURCE_NFTABLES);
    node.read();
    node.content.services[0].endpoints = endpoints;
    node.change(HPTRACE_SOURCE_NFTABLES);
    node.read();
    const auto within = node.taken();
    history.grace_begins();
    history.grace_over(node.now++);
    CHECK(judged(node, within).verdict == Verdict::unsettled);
    CHECK(judged(node, node.taken()).verdict == Verdict::hijacked);
}

TEST_CASE("a turn takes some milliseconds, however much there is to be told") {
    FakeNode node;
    node.read();
    for (int i = 0; i < 1000; ++i) {
        node.judge().take(node.served());
    }
    std::size_t told = 0;
    const auto slow = [&](const Finding&) {
        node.now += millisecond;
        ++told;
    };
    CHECK(node.judge().judge(slow));
    CHECK(told == 5);
    while (node.judge().judge(slow)) {
    }
    CHECK(told == 1000);
    CHECK(node.judge().idle());
}

TEST_CASE("existing connections wait for as long as a read takes, but not for one that cannot be had") {
    FakeNode node;
    auto& history = node.history();
    node.read();
    auto found = existing("10.96.0.10:3306", "10.224.0.222:3306");
    found.boot_ns = node.now++;
    node.judge().take(found);
    std::vector<Finding> findings;
    const auto keep = [&findings](const Finding& finding) { findings.push_back(finding); };
    node.now += second;
    node.judge().judge(keep);
    REQUIRE(node.asked);
    node.now += 20 * second;
    node.judge().judge(keep);
    CHECK(findings.empty());
    SECTION("it comes") {
        node.answer();
        node.judge().judge(keep);
        REQUIRE(findings.size() == 1);
        CHECK(findings[0].verdict == Verdict::hijacked);
    }
    SECTION("it does not") {
        node.asked.reset();
        history.unreadable();
        node.judge().judge(keep);
        REQUIRE(findings.size() == 1);
        CHECK(findings[0].verdict == Verdict::unsettled);
    }
}

TEST_CASE("kube-proxy at work: connections to known endpoints cost a tenth of the time at most") {
    FakeNode node;
    node.read();
    std::size_t shown = 0;
    // Ten seconds of 50 changes and 5,000 connections a second, judged every 50 ms.
    for (int i = 0; i < 10'000; ++i) {
        node.now += millisecond;
        if (i % 20 == 0) {
            node.change(HPTRACE_SOURCE_IPVS);
        }
        for (int made = 0; made < 5; ++made) {
            node.judge().take(node.served());
        }
        if (i % 50 == 0) {
            for (const auto& finding : turn(node)) {
                CHECK(finding.verdict == Verdict::ok);
                ++shown;
            }
        }
    }
    shown += finish(node).size();
    CHECK(shown == 50'000);
    CHECK(node.reads <= 103);
}

TEST_CASE("hijacks while kube-proxy is at work are all found, in order, at a tenth of the time for reads") {
    FakeNode node;
    const auto cost = GENERATE(1U, 30U, 400U);
    node.read_takes = cost * millisecond;
    node.changes_while_read = GENERATE(false, true);
    node.read();
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
        node.judge().take(node.taken());
        node.judge().take(node.served());
        made += 2;
        if (node.now >= next) {
            keep(turn(node));
            next = node.now + 50 * millisecond;
        }
    }
    // The first and the second follow each other at once; a pause is half a second at most.
    const auto most = 1 + (cost == 1 ? 100 : cost == 30 ? 33 : 12);
    CHECK(node.reads <= most);
    keep(finish(node));
    REQUIRE(findings.size() == made);
    CHECK(longest <= 2 * second);
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
    node.read();
    node.now += second;
    CHECK(judged(node, node.taken()).verdict == Verdict::ok);
    CHECK(node.reads == 1);
    // The pod is taken out of the Service, and its rule takes the Service's connections.
    node.content.services[0].endpoints = {end("10.224.0.224:3306")};
    node.change(HPTRACE_SOURCE_XTABLES);
    CHECK(judged(node, node.taken()).verdict == Verdict::hijacked);
    CHECK(node.reads == 2);
}

TEST_CASE("an announced change is read for an unexplained rewrite") {
    FakeNode node;
    auto service = node.content.services;
    node.content.services.clear();
    node.read();
    node.now += second;
    node.judge().take(node.taken());
    REQUIRE(turn(node).size() == 1);
    CHECK(node.reads == 1);
    node.content.services = service;
    node.announced = true;
    node.judge().take(node.taken());
    const auto findings = turn(node);
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].verdict == Verdict::unsettled);
    CHECK(node.reads == 2);
    CHECK(judged(node, node.taken()).verdict == Verdict::hijacked);
}

TEST_CASE("what nobody asks for is read again within a second of a change") {
    FakeNode node;
    node.read();
    node.change(HPTRACE_SOURCE_NFTABLES);
    CHECK_FALSE(node.due());
    node.now += second;
    CHECK(node.due());
    node.read();
    node.now += 10 * second;
    CHECK_FALSE(node.due());
}

TEST_CASE("a finding says when the state it was judged by was read") {
    FakeNode node;
    auto& history = node.history();
    node.read();
    node.now += 5 * second;
    node.change(HPTRACE_SOURCE_NFTABLES);
    const auto made = node.taken();
    const auto finding = judged(node, made);
    CHECK(finding.state_boot_ns == history.newest().boot_ns);
    CHECK(history.newest().boot_ns > made.boot_ns);
}

TEST_CASE("a state that is not kept fresh is read for what is judged by it, and for nothing else") {
    FakeNode node;
    node.kept_fresh = false;
    CHECK(judged(node, node.served()).verdict == Verdict::ok);
    CHECK(node.reads == 1);
    node.change(HPTRACE_SOURCE_NFTABLES);
    node.now += 100 * second;
    CHECK(turn(node).empty());
    CHECK(node.reads == 1);
    // It may be hours old: what led to an endpoint then can be a hijack now.
    node.content.services[0].endpoints.clear();
    auto taken = node.taken();
    node.judge().take(taken);
    auto findings = turn(node);
    REQUIRE(findings.size() == 1);
    CHECK(node.reads == 2);
    node.change(HPTRACE_SOURCE_IPVS);
    node.now += 100 * second;
    node.judge().take(node.served());
    CHECK(turn(node).size() == 1);
    CHECK(node.reads == 3);
    CHECK(node.judge().idle());
    // Under the same counters what they do not count has some seconds.
    node.now += 4 * second;
    CHECK(judged(node, node.served()).verdict == Verdict::ok);
    CHECK(node.reads == 3);
    node.now += 2 * second;
    CHECK(judged(node, node.served()).verdict == Verdict::ok);
    CHECK(node.reads == 4);
}
