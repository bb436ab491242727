// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch_test_macros.hpp>

#include "node.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

const auto hijack = connection("10.96.0.10:3306", "10.224.0.222:3306");

NodeState indexed(NodeState state) {
    state.index();
    return state;
}

}  // namespace

TEST_CASE("an alarm needs both neighbours to agree") {
    const auto taken = indexed(ipvs_node(Backend::iptables_nft));
    auto other = ipvs_node(Backend::iptables_nft);

    CHECK(judge_between(hijack, &taken, &taken).verdict == Verdict::hijacked);
    CHECK(judge_between(hijack, &taken, &taken).reason_code == ReasonCode::other_backend);

    SECTION("the Service had this endpoint before") {
        other.services[0].endpoints = {end("10.224.0.222:3306")};
        other.index();
        CHECK(judge_between(hijack, &other, &taken).verdict == Verdict::unsettled);
        CHECK(judge_between(hijack, &taken, &other).verdict == Verdict::unsettled);
    }
    SECTION("it was another pod's rule before") {
        other.hostports[0].chain = "CNI-DN-another";
        other.index();
        const auto finding = judge_between(hijack, &other, &taken);
        CHECK(finding.verdict == Verdict::unsettled);
        CHECK_FALSE(finding.rule);
        CHECK(finding.conflict_id.empty());
        CHECK_FALSE(finding.reason.empty());
    }
    SECTION("the rule was not there before") {
        other.hostports.clear();
        other.index();
        CHECK(judge_between(hijack, &other, &taken).verdict == Verdict::unsettled);
    }
}

TEST_CASE("one neighbour alone raises no alarm, and is believed otherwise if it is from after the connection") {
    const auto state = indexed(ipvs_node(Backend::iptables_nft));
    CHECK(judge_between(hijack, nullptr, &state).verdict == Verdict::unsettled);
    CHECK(judge_between(hijack, &state, nullptr).verdict == Verdict::unsettled);
    const auto plain = connection("192.168.0.2:3306", "10.224.0.222:3306");
    CHECK(judge_between(plain, nullptr, &state).verdict == Verdict::hostport);
    CHECK(judge_between(plain, &state, nullptr).verdict == Verdict::unsettled);
    auto served = connection("10.96.0.10:3306", "10.224.0.224:3306");
    served.mechanism = Mechanism::ip_vs;
    CHECK(judge_between(served, nullptr, &state).verdict == Verdict::ok);
    CHECK(judge_between(served, &state, nullptr).verdict == Verdict::unsettled);
    served.existing = true;
    CHECK(judge_between(served, &state, nullptr).verdict == Verdict::ok);
}

TEST_CASE("what only the state before could not tell stays unknown") {
    NodeState gone;
    gone.sources.emplace(netns_source, SourceStatus{SourceState::unreadable, "gone"});
    gone.index();
    CHECK(judge_between(hijack, &gone, nullptr).verdict == Verdict::unknown);
}

TEST_CASE("neighbours that differ in what does not matter agree") {
    const auto before = indexed(iptables_node(Backend::iptables_legacy));
    auto after = iptables_node(Backend::iptables_legacy);
    after.services[0].endpoints.push_back(end("10.224.0.225:3306"));
    after.index();
    const auto ok = connection("10.96.0.10:3306", "10.224.0.224:3306");
    CHECK(judge_between(ok, &before, &after).verdict == Verdict::ok);
}

TEST_CASE("what could not be read on one side is unknown, not unsettled") {
    const auto taken = indexed(ipvs_node(Backend::iptables_nft));
    NodeState gone;
    gone.sources.emplace(netns_source, SourceStatus{SourceState::unreadable, "gone"});
    gone.index();
    for (const auto& finding : {judge_between(hijack, &taken, &gone), judge_between(hijack, &gone, &taken),
                                judge_between(hijack, &gone, &gone), judge_between(hijack, nullptr, &gone)}) {
        CHECK(finding.verdict == Verdict::unknown);
        CHECK(finding.reason == "network namespace could not be read: gone");
    }
    auto served = connection("10.96.0.10:3306", "10.224.0.224:3306");
    served.mechanism = Mechanism::ip_vs;
    CHECK(judge_between(served, nullptr, &gone).verdict == Verdict::unknown);
    // Elsewhere the same holds for one source.
    auto blind = ipvs_node(Backend::iptables_nft);
    blind.services.clear();
    blind.sources["ip_vs"] = {SourceState::unreadable, "no"};
    blind.index();
    CHECK(judge_between(hijack, &taken, &blind).verdict == Verdict::unknown);
}
