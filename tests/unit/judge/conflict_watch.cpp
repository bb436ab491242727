// SPDX-License-Identifier: GPL-2.0-or-later
#include "judge/conflict_watch.hpp"

#include <fmt/format.h>

#include <catch2/catch_test_macros.hpp>

#include "judge/judge.hpp"

using namespace hptrace;

namespace {

Conflict conflict(const char* id, Winner winner = Winner::hostport) {
    Conflict made;
    made.conflict_id = id;
    made.winner = winner;
    made.rule.backend = Backend::iptables_nft;
    return made;
}

const NodeState all_read;

NodeState unread(const char* source) {
    NodeState state;
    state.sources[source] = {SourceState::unreadable, "no"};
    return state;
}

FoundConflicts found(std::vector<Conflict> conflicts, bool given_up = false) {
    return {.conflicts = std::move(conflicts), .doubts = {}, .given_up = given_up};
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
    CHECK(ids(watch.update(found({conflict("a"), conflict("b")}), all_read, 0, {}).appeared) == "ab");
    const auto same = watch.update(found({conflict("a"), conflict("b")}), all_read, 0, {});
    CHECK((same.appeared.empty() && same.ended.empty()));
    const auto fewer = watch.update(found({conflict("b")}), all_read, 0, {});
    CHECK((fewer.appeared.empty() && ids(fewer.ended) == "a"));
    CHECK(ids(watch.update(found({conflict("a"), conflict("b")}), all_read, 0, {}).appeared) == "a");
}

TEST_CASE("nothing ends because something could not be read") {
    ConflictWatch watch;
    watch.update(found({conflict("a")}), all_read, 0, {});
    CHECK(watch.update(found({}), unread("nf_tables"), 0, {}).ended.empty());
    CHECK(ids(watch.update(found({}), all_read, 0, {}).ended) == "a");
}

TEST_CASE("what is not found ends only if all were looked for") {
    ConflictWatch watch;
    watch.update(found({conflict("a"), conflict("b"), conflict("c")}), all_read, 0, {});
    const auto some = watch.update(found({conflict("b"), conflict("c", Winner::service)}, true), all_read, 0, {});
    CHECK(ids(some.ended) == "c");  // which is seen to do no harm
    CHECK(ids(watch.update(found({conflict("b")}), all_read, 0, {}).ended) == "a");
}

TEST_CASE("others than those that are looked for are not kept, however long that goes on") {
    ConflictWatch watch;
    for (int read = 0; read < 3; ++read) {
        std::vector<Conflict> conflicts;
        for (std::size_t i = 0; i < most_conflicts; ++i) {
            conflicts.push_back(conflict(fmt::format("{}-{}", read, i).c_str()));
        }
        const auto changes = watch.update(found(std::move(conflicts), true), all_read, 0, {});
        CHECK(changes.appeared.size() == (read == 0 ? most_conflicts : 0));
        CHECK(changes.ended.empty());
    }
    CHECK(watch.end().size() == most_conflicts);
}

TEST_CASE("all end with the namespace, once") {
    ConflictWatch watch;
    watch.update(found({conflict("a"), conflict("b")}), all_read, 0, {});
    CHECK(ids(watch.end()) == "ab");
    CHECK(watch.end().empty());
    CHECK_FALSE(watch.waiting());
}

TEST_CASE("what the Service wins, or harms nobody, is no conflict; another winner is news") {
    ConflictWatch watch;
    auto harmless = conflict("h");
    harmless.bypass = true;
    CHECK(watch.update(found({conflict("a", Winner::service), harmless}), all_read, 0, {}).appeared.empty());
    CHECK(ids(watch.update(found({conflict("a", Winner::depends)}), all_read, 0, {}).appeared) == "a");
    CHECK(ids(watch.update(found({conflict("a", Winner::hostport)}), all_read, 0, {}).appeared) == "a");
    CHECK(ids(watch.update(found({conflict("a", Winner::service)}), all_read, 0, {}).ended) == "a");
}

TEST_CASE("a rule whose sandbox libcni has not written yet is reported with its pod") {
    constexpr std::uint64_t wait = ConflictWatch::longest_wait_for_pod_ns;
    constexpr ConflictWatch::ToCome to_come{.pod = true, .service = false};
    auto nameless = conflict("a");
    nameless.rule.container_id = "0123";
    auto named = nameless;
    named.rule_pod = Pod{"default", "mysql-b-0"};
    ConflictWatch watch;
    CHECK(watch.update(found({nameless}), all_read, 10 * wait, to_come).appeared.empty());
    CHECK(watch.waiting());
    CHECK(ids(watch.update(found({named}), all_read, 10 * wait + 1, to_come).appeared) == "a");
    CHECK_FALSE(watch.waiting());

    ConflictWatch left_over;  // it is left over indeed
    CHECK(left_over.update(found({nameless}), all_read, 10 * wait, to_come).appeared.empty());
    CHECK(ids(left_over.update(found({nameless}), all_read, 11 * wait, to_come).appeared) == "a");
    CHECK(left_over.update(found({nameless}), all_read, 12 * wait, to_come).appeared.empty());

    ConflictWatch gone;
    CHECK(gone.update(found({nameless}), all_read, 10 * wait, to_come).appeared.empty());
    CHECK(gone.update(found({}), all_read, 11 * wait, to_come).ended.empty());
    CHECK_FALSE(gone.waiting());
}

TEST_CASE("a conflict is reported with the Service's name, if the first list of the API is about to come") {
    constexpr std::uint64_t wait = ConflictWatch::longest_wait_for_service_ns;
    constexpr ConflictWatch::ToCome to_come{.pod = false, .service = true};
    const auto nameless = conflict("a");
    auto named = nameless;
    named.service.name = ServiceName{"default", "mysql-a", ""};
    ConflictWatch watch;
    CHECK(watch.update(found({nameless}), all_read, 10 * wait, to_come).appeared.empty());
    CHECK(watch.waiting());
    const auto appeared = watch.update(found({named}), all_read, 10 * wait + 1, {}).appeared;
    REQUIRE(appeared.size() == 1);
    CHECK(appeared[0].service.name);

    ConflictWatch slow;
    CHECK(slow.update(found({nameless}), all_read, 10 * wait, to_come).appeared.empty());
    CHECK(ids(slow.update(found({nameless}), all_read, 11 * wait, to_come).appeared) == "a");

    ConflictWatch failed;  // the list came and does not have it, or there is none
    CHECK(failed.update(found({nameless}), all_read, 10 * wait, to_come).appeared.empty());
    CHECK(ids(failed.update(found({nameless}), all_read, 10 * wait + 1, {}).appeared) == "a");
}

TEST_CASE("who waits for the Service's name does not wait for that of a pod that is gone as well") {
    constexpr std::uint64_t wait = ConflictWatch::longest_wait_for_service_ns;
    auto nameless = conflict("a");
    nameless.rule.container_id = "0123";
    ConflictWatch watch;
    CHECK(watch.update(found({nameless}), all_read, 10 * wait, {.pod = false, .service = true}).appeared.empty());
    CHECK(ids(watch.update(found({nameless}), all_read, 10 * wait + 1, {.pod = true, .service = false}).appeared) ==
          "a");
}
