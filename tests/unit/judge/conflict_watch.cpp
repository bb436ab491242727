// SPDX-License-Identifier: GPL-2.0-or-later
#include "judge/conflict_watch.hpp"

#include <catch2/catch_test_macros.hpp>

using namespace hptrace;

namespace {

Conflict conflict(const char* id, Winner winner = Winner::hostport) {
    Conflict made;
    made.conflict_id = id;
    made.winner = winner;
    return made;
}

std::string ids(const std::vector<Conflict>& conflicts) {
    std::string all;
    for (const auto& one : conflicts) {
        all += one.conflict_id;
    }
    return all;
}

}  // namespace

TEST_CASE("a conflict appears once and ends once") {
    ConflictWatch watch;
    CHECK(ids(watch.update({conflict("a"), conflict("b")}, true, 0).appeared) == "ab");
    const auto same = watch.update({conflict("a"), conflict("b")}, true, 0);
    CHECK((same.appeared.empty() && same.ended.empty()));
    const auto fewer = watch.update({conflict("b")}, true, 0);
    CHECK((fewer.appeared.empty() && ids(fewer.ended) == "a"));
    CHECK(ids(watch.update({conflict("a"), conflict("b")}, true, 0).appeared) == "a");
}

TEST_CASE("nothing ends because something could not be read") {
    ConflictWatch watch;
    watch.update({conflict("a")}, true, 0);
    CHECK(watch.update({}, false, 0).ended.empty());
    CHECK(ids(watch.update({}, true, 0).ended) == "a");
}

TEST_CASE("all end with the namespace, once") {
    ConflictWatch watch;
    watch.update({conflict("a"), conflict("b")}, true, 0);
    CHECK(ids(watch.end()) == "ab");
    CHECK(watch.end().empty());
    CHECK_FALSE(watch.waiting());
}

TEST_CASE("what the Service wins, or harms nobody, is no conflict; another winner is news") {
    ConflictWatch watch;
    auto harmless = conflict("h");
    harmless.bypass = true;
    CHECK(watch.update({conflict("a", Winner::service), harmless}, true, 0).appeared.empty());
    CHECK(ids(watch.update({conflict("a", Winner::depends)}, true, 0).appeared) == "a");
    CHECK(ids(watch.update({conflict("a", Winner::hostport)}, true, 0).appeared) == "a");
    CHECK(ids(watch.update({conflict("a", Winner::service)}, true, 0).ended) == "a");
}

TEST_CASE("a rule whose sandbox libcni has not written yet is reported with its pod") {
    constexpr std::uint64_t wait = ConflictWatch::longest_wait_ns;
    auto nameless = conflict("a");
    nameless.rule.container_id = "0123";
    auto named = nameless;
    named.rule_pod = Pod{"default", "mysql-b-0"};
    ConflictWatch watch;
    CHECK(watch.update({nameless}, true, 10 * wait).appeared.empty());
    CHECK(watch.waiting());
    CHECK(ids(watch.update({named}, true, 10 * wait + 1).appeared) == "a");
    CHECK_FALSE(watch.waiting());

    ConflictWatch left_over;  // it is left over indeed
    CHECK(left_over.update({nameless}, true, 10 * wait).appeared.empty());
    CHECK(ids(left_over.update({nameless}, true, 11 * wait).appeared) == "a");
    CHECK(left_over.update({nameless}, true, 12 * wait).appeared.empty());

    ConflictWatch gone;
    CHECK(gone.update({nameless}, true, 10 * wait).appeared.empty());
    CHECK(gone.update({}, true, 11 * wait).ended.empty());
    CHECK_FALSE(gone.waiting());
}
