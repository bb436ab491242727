// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/live_judge.hpp"

#include <catch2/catch_test_macros.hpp>

#include "cli/fake_node.hpp"

using namespace hptrace;
using namespace hptrace::test;

TEST_CASE("a hijack is judged and named by the state it was made under") {
    FakeNode node;
    auto history = node.history();
    LiveJudge judge(history);
    const auto finding = judge.judge(made_under(node.changes));
    CHECK(finding.verdict == Verdict::hijacked);
    CHECK(finding.rule_pod == Pod{"default", "mysql-b-0"});
    CHECK(node.reads == 1);
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
    const auto between = made_under(node.changes);
    node.change(HPTRACE_SOURCE_NFTABLES);
    CHECK(judge.judge(between).verdict == Verdict::unsettled);
    CHECK(judge.judge(made_under(node.changes)).verdict == Verdict::hijacked);
}

TEST_CASE("with nothing settled to judge by there is no alarm") {
    FakeNode node;
    node.consistent = false;
    auto history = node.history();
    LiveJudge judge(history);
    CHECK(judge.judge(made_under(node.changes)).verdict == Verdict::unsettled);
}

TEST_CASE("where changes are not counted, an unexplained rewrite makes it read again, once a second at most") {
    FakeNode node;
    node.tracked = 0;
    node.content.hostports.clear();
    auto history = node.history();
    LiveJudge judge(history);
    history.refresh();
    const auto fresh = ipvs_node(Backend::iptables_nft);
    node.content = fresh;  // nobody notices
    CHECK(judge.judge(made_under(node.changes)).verdict == Verdict::foreign);
    CHECK(node.reads == 1);
    node.now += 1'000'000'000;
    CHECK(judge.judge(made_under(node.changes)).verdict == Verdict::unsettled);
    CHECK(node.reads == 2);
    CHECK(judge.judge(made_under(node.changes)).verdict == Verdict::hijacked);
    CHECK(node.reads == 2);

    node.now += 5'000'000'000;
    auto fine = connection("10.96.0.10:3306", "10.224.0.224:3306");
    fine.mechanism = Mechanism::ip_vs;
    CHECK(judge.judge(fine).verdict == Verdict::ok);
    CHECK(node.reads == 2);
}

TEST_CASE("a sandbox that is not in the cache yet is looked for once more") {
    FakeNode node;
    const auto sandboxes = node.content.sandboxes;
    node.content.sandboxes.clear();
    auto history = node.history();
    LiveJudge judge(history);
    history.refresh();
    SECTION("it came") {
        node.content.sandboxes = sandboxes;
        const auto finding = judge.judge(made_under(node.changes));
        CHECK(finding.verdict == Verdict::hijacked);
        CHECK_FALSE(finding.rule_stale);
        CHECK(finding.rule_pod == Pod{"default", "mysql-b-0"});
        CHECK(node.reads == 2);
    }
    SECTION("it is gone for good: looked for once only") {
        for (int i = 0; i < 3; ++i) {
            const auto finding = judge.judge(made_under(node.changes));
            CHECK(finding.verdict == Verdict::hijacked);
            CHECK(finding.rule_stale);
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
        CHECK(judge.judge(found).verdict == Verdict::hijacked);
        CHECK(judge.judge(found).verdict == Verdict::hijacked);
        CHECK(node.reads == 2);
    }
    SECTION("it does not") {
        node.content.services[0].endpoints = {end("10.224.0.222:3306")};
        CHECK(judge.judge(found).verdict == Verdict::unsettled);
    }
}
