// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/merger.hpp"

#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <string>
#include <vector>

using namespace hptrace;

namespace {

constexpr std::uint64_t ms = 1'000'000;

struct Fixture {
    Merger merger;
    std::vector<Connection> out;

    explicit Fixture(Merger::Options options = {}) : merger(options) {}

    static Observation observation(Observation::Kind kind, std::uint64_t ct, std::uint64_t at, std::uint16_t port) {
        Observation record{.kind = kind, .ct = ct, .connection = {}};
        record.connection.boot_ns = at;
        record.connection.client = *parse_endpoint("10.0.0.1:0");
        record.connection.client.port = port;
        record.connection.original = *parse_endpoint("10.96.0.10:3306");
        record.connection.rewritten = *parse_endpoint("10.224.0.5:3306");
        return record;
    }
    static Observation decision(std::uint64_t ct, std::uint64_t at, std::uint16_t port = 1000) {
        return observation(Observation::Kind::decision, ct, at, port);
    }
    static Observation commit(std::uint64_t ct, std::uint64_t at, std::uint16_t port = 1000) {
        auto record = observation(Observation::Kind::commit, ct, at, port);
        record.connection.committed = true;
        record.connection.reply_destination = *parse_endpoint("10.224.0.1:50000");
        return record;
    }
    std::size_t release(std::uint64_t now) {
        return merger.release(now, [this](Connection&& connection) { out.push_back(std::move(connection)); });
    }
};

}  // namespace

TEST_CASE("a committed decision is handed over at once, with its final reply tuple") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 10 * ms));
    CHECK(test.release(10 * ms) == 0);
    test.merger.take(Fixture::commit(1, 11 * ms));
    REQUIRE(test.release(11 * ms) == 1);
    CHECK(test.out[0].committed == true);
    CHECK(test.out[0].boot_ns == 10 * ms);
    CHECK(to_string(test.out[0].reply_destination.value()) == "10.224.0.1:50000");
}

TEST_CASE("a decision whose first packet was dropped is shown after the hold time, as not committed") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 10 * ms));
    CHECK(test.release(209 * ms) == 0);
    REQUIRE(test.release(210 * ms) == 1);
    CHECK(test.out[0].committed == false);
    CHECK_FALSE(test.out[0].reply_destination);
}

TEST_CASE("retransmissions of a dropped packet are one connection") {
    Fixture test;
    for (std::uint64_t i = 0; i < 4; ++i) {
        test.merger.take(Fixture::decision(i + 1, i * 1000 * ms));
        test.release(i * 1000 * ms + 500 * ms);
    }
    REQUIRE(test.out.size() == 1);
    CHECK(test.out[0].boot_ns == 0);
}

TEST_CASE("a port that is used again after a commit is a new connection") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 0));
    test.merger.take(Fixture::commit(1, 1));
    test.merger.take(Fixture::decision(1, 2));
    test.merger.take(Fixture::commit(1, 3));
    CHECK(test.release(4) == 2);
}

TEST_CASE("a retransmission that gets through is handed over, and ends the merging") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 0));
    test.release(500 * ms);
    auto repeat = Fixture::decision(2, 1000 * ms);
    repeat.connection.rule = 42;
    test.merger.take(std::move(repeat));
    test.merger.take(Fixture::commit(2, 1000 * ms));
    REQUIRE(test.release(1000 * ms) == 1);
    CHECK(test.out[0].committed == false);
    CHECK(test.out[1].committed == true);
    CHECK(test.out[1].boot_ns == 1000 * ms);
    CHECK(test.out[1].rule == 42U);
    CHECK(test.out[1].reply_destination.has_value());
    test.merger.take(Fixture::decision(3, 2000 * ms));
    test.merger.take(Fixture::commit(3, 2000 * ms));
    CHECK(test.release(2000 * ms) == 1);
}

TEST_CASE("a dropped packet swallows no later connection") {
    for (const bool clashes : {false, true}) {
        Fixture test({.sees_clashes = clashes});
        test.merger.take(Fixture::decision(1, 10'000 * ms));
        CHECK(test.release(11'000 * ms) == 1);
        test.merger.take(Fixture::decision(2, 18'000'000 * ms));
        test.merger.take(Fixture::commit(2, 18'000'000 * ms));
        REQUIRE(test.release(18'000'000 * ms) == 1);
        CHECK(test.out[1].committed == true);
    }
}

TEST_CASE("a policy that dropped thousands of attempts and is lifted: everything is shown") {
    Fixture test({.sees_clashes = true});
    constexpr std::uint16_t attempts = 10'000;
    for (std::uint16_t i = 0; i < attempts; ++i) {
        test.merger.take(Fixture::decision(1 + i, i * 10 * ms, i));
        test.release(i * 10 * ms + 500 * ms);
    }
    test.release(1'000'000 * ms);
    CHECK(test.out.size() == attempts);
    test.out.clear();
    for (std::uint16_t i = 0; i < attempts; ++i) {
        const auto at = 300'000 * ms + i * 10 * ms;
        test.merger.take(Fixture::decision(100'000 + i, at, i));
        test.merger.take(Fixture::commit(100'000 + i, at + 1, i));
        test.release(at + 2);
    }
    CHECK(test.out.size() == attempts);
}

namespace {

Observation of_protocol(Protocol protocol, Observation&& record) {
    record.connection.protocol = protocol;
    return std::move(record);
}

}  // namespace

TEST_CASE("the back-off of retransmissions does not make connections of them, a pause does") {
    for (const auto protocol : {Protocol::tcp, Protocol::udp, Protocol::sctp}) {
        const auto window = static_cast<std::uint64_t>(std::chrono::nanoseconds(repeat_window(protocol)).count());
        CHECK(window <= 64'000 * ms);
        Fixture test;
        std::uint64_t now = 0;
        std::uint64_t ct = 0;
        // The window slides: three of them in all.
        for (const auto pause : {std::uint64_t{0}, window / 2, window, window}) {
            now += pause;
            test.merger.take(of_protocol(protocol, Fixture::decision(++ct, now)));
            test.release(now + 300 * ms);
        }
        CHECK(test.out.size() == 1);
        now += window + 1;
        test.merger.take(of_protocol(protocol, Fixture::decision(++ct, now)));
        test.release(now + 300 * ms);
        CHECK(test.out.size() == 2);
        // Tidied up or not.
        now += 1'000'000 * ms;
        test.release(now);
        test.merger.take(of_protocol(protocol, Fixture::decision(++ct, now)));
        CHECK(test.release(now + 300 * ms) == 1);
    }
    CHECK(repeat_window(Protocol::tcp) == std::chrono::seconds(64));
    CHECK(repeat_window(Protocol::udp) < repeat_window(Protocol::tcp));
}

TEST_CASE("of repeats that wait, one that is committed is handed over, whenever the first one went") {
    // 1 is dropped; 2 and 3 come while it waits.
    for (const std::uint64_t through : {2U, 3U}) {
        for (const auto when : {190 * ms, 250 * ms, 320 * ms}) {
            Fixture test;
            test.merger.take(Fixture::decision(1, 0));
            test.merger.take(Fixture::decision(2, 130 * ms));
            test.merger.take(Fixture::decision(3, 150 * ms));
            test.release(when);
            test.merger.take(Fixture::commit(through, when));
            test.release(1000 * ms);
            std::size_t committed = 0;
            for (const auto& connection : test.out) {
                committed += connection.committed == true ? 1U : 0U;
            }
            CHECK(committed == 1);
            CHECK(test.out.size() == (when < 200 * ms ? 1 : 2));
        }
    }
    Fixture test;
    test.merger.take(Fixture::decision(1, 0));
    test.merger.take(Fixture::decision(2, 130 * ms));
    test.merger.take(Fixture::decision(3, 150 * ms));
    CHECK(test.release(1000 * ms) == 1);
    CHECK(test.merger.handed_over(1000 * ms));
}

TEST_CASE("a repeat whose commit may have been lost is handed over, claiming nothing") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 0));
    CHECK(test.release(200 * ms) == 1);
    test.merger.take(Fixture::decision(2, 1000 * ms));
    test.merger.commits_lost();
    REQUIRE(test.release(1200 * ms) == 1);
    CHECK_FALSE(test.out[1].committed);

    // Also if it waited already when the first one went.
    Fixture other;
    other.merger.take(Fixture::decision(1, 0));
    other.merger.take(Fixture::decision(2, 150 * ms));
    CHECK(other.release(250 * ms) == 1);
    other.merger.commits_lost();
    CHECK_FALSE(other.merger.handed_over(150 * ms));
    REQUIRE(other.release(350 * ms) == 1);
    CHECK_FALSE(other.out[1].committed);
}

TEST_CASE("a commit that shows no decision of its own is handed over, though equal ones were dropped") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 0));
    CHECK(test.release(200 * ms) == 1);
    test.merger.take(Fixture::commit(2, 1000 * ms));
    REQUIRE(test.release(1000 * ms) == 1);
    CHECK(test.out[1].committed == true);
}

TEST_CASE("the commit of what was handed over before its time is no second connection") {
    Fixture test({.capacity = 1});
    test.merger.take(Fixture::decision(1, 0, 1));
    test.merger.take(Fixture::decision(2, 0, 2));
    REQUIRE(test.release(1) == 1);
    CHECK_FALSE(test.out[0].committed);
    test.merger.take(Fixture::commit(2, 2, 2));
    CHECK(test.release(3) == 1);
    test.merger.take(Fixture::commit(1, 4, 1));
    test.release(1000 * ms);
    CHECK(test.out.size() <= 3);
}

TEST_CASE("when one of two racing packets gets through, the connection did") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 0));
    test.merger.take(Fixture::decision(2, 1));
    test.merger.take(Fixture::commit(2, 2));
    REQUIRE(test.release(3) == 1);
    CHECK(test.out[0].committed == true);
}

TEST_CASE("a packet that was decided when its connection was being committed is no second connection") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 0));
    test.merger.take(Fixture::commit(1, 1 * ms));
    test.merger.take(Fixture::decision(2, 2 * ms));  // its conntrack entry loses the clash: no commit
    CHECK(test.release(1000 * ms) == 1);
    // The port used again, later, dropped at first.
    test.merger.take(Fixture::decision(3, 2000 * ms));
    REQUIRE(test.release(2500 * ms) == 1);
    CHECK(test.out[1].committed == false);
}

TEST_CASE("a clash does not hide the retransmission of a dropped packet") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 0));
    test.merger.take(Fixture::commit(1, 1 * ms));
    test.merger.take(Fixture::decision(2, 2 * ms));  // the port used again at once, and dropped
    CHECK(test.release(1000 * ms) == 1);
    test.merger.take(Fixture::decision(3, 1001 * ms));
    test.merger.take(Fixture::commit(3, 1002 * ms));
    CHECK(test.release(1003 * ms) == 1);
}

TEST_CASE("a commit that comes after the hold time is handed over, and ends the merging") {
    Fixture test;
    auto first = Fixture::decision(1, 10 * ms);
    first.connection.rule = 42;
    first.connection.changes.begin[HPTRACE_SOURCE_XTABLES] = 7;
    test.merger.take(std::move(first));
    REQUIRE(test.release(300 * ms) == 1);
    CHECK(test.out[0].committed == false);
    test.merger.take(Fixture::commit(1, 400 * ms));
    REQUIRE(test.release(400 * ms) == 1);
    CHECK(test.out[1].committed == true);
    // The decision is the same: its time, its rule, what it was made under.
    CHECK(test.out[1].boot_ns == 10 * ms);
    CHECK(test.out[1].rule == 42U);
    CHECK(test.out[1].changes.begin[HPTRACE_SOURCE_XTABLES] == 7);
    test.merger.take(Fixture::decision(2, 500 * ms));
    CHECK(test.release(800 * ms) == 1);
}

TEST_CASE("what differs in any part of the tuples is not merged") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 0));
    auto other = Fixture::decision(2, 0);
    other.connection.netns = 9;
    test.merger.take(std::move(other));
    other = Fixture::decision(3, 0);
    other.connection.zone = 9;
    test.merger.take(std::move(other));
    other = Fixture::decision(4, 0);
    other.connection.protocol = Protocol::udp;
    test.merger.take(std::move(other));
    other = Fixture::decision(5, 0);
    other.connection.rewritten.port = 1;
    test.merger.take(std::move(other));
    test.merger.take(Fixture::decision(6, 0, 1001));
    CHECK(test.release(200 * ms) == 6);
}

TEST_CASE("the memory of a freed conntrack entry may serve another connection") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 0, 1000));
    test.merger.take(Fixture::decision(1, 1, 2000));
    test.merger.take(Fixture::commit(1, 2, 2000));
    REQUIRE(test.release(3) == 2);
    CHECK(test.out[0].committed == false);
    CHECK(test.out[1].committed == true);
}

TEST_CASE("a commit of other tuples at the same address commits nothing here") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 0, 1000));
    test.merger.take(Fixture::commit(1, 1, 2000));
    REQUIRE(test.release(200 * ms) == 2);
    CHECK(test.out[0].client.port == 1000);
    CHECK(test.out[0].committed == false);
}

TEST_CASE("a commit whose decision the kernel did not show is a connection") {
    Fixture test;
    test.merger.take(Fixture::commit(1, 10 * ms));
    REQUIRE(test.release(10 * ms) == 1);
    CHECK(test.out[0].committed == true);
    CHECK(test.out[0].boot_ns == 10 * ms);
    CHECK(to_string(test.out[0].original) == "10.96.0.10:3306");
    CHECK(to_string(test.out[0].reply_destination.value()) == "10.224.0.1:50000");

    // The next one with this port, seen from its decision on, is another.
    test.merger.take(Fixture::decision(2, 500 * ms));
    test.merger.take(Fixture::commit(2, 501 * ms));
    CHECK(test.release(501 * ms) == 1);

    // The last ones are not forgotten.
    test.merger.take(Fixture::commit(3, 600 * ms, 1001));
    CHECK(test.merger.release_all([](Connection&&) {}) == 1);
}

TEST_CASE("a commit whose decision was lost and counted is no connection") {
    Fixture test;
    test.merger.take(Fixture::commit(1, 10 * ms));
    test.merger.decisions_lost();
    CHECK(test.release(10 * ms) == 0);
}

TEST_CASE("the second commit of a clash is no connection") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 0));
    test.merger.take(Fixture::decision(2, 1));
    test.merger.take(Fixture::commit(1, 2));
    test.merger.take(Fixture::commit(1, 3));  // of the packet that lost: its entry is now the other's
    CHECK(test.release(1000 * ms) == 1);
}

TEST_CASE("connections come in the order of their decisions") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 0, 1000));
    test.merger.take(Fixture::decision(2, 1, 2000));
    test.merger.take(Fixture::commit(2, 2, 2000));
    CHECK(test.release(100 * ms) == 0);
    REQUIRE(test.release(200 * ms) == 2);
    CHECK(test.out[0].client.port == 1000);
    CHECK(test.out[1].client.port == 2000);
}

TEST_CASE("ip_vs connections are committed by nature and wait for nothing") {
    Fixture test;
    for (int i = 0; i < 2; ++i) {
        auto record = Fixture::decision(0, 0);
        record.connection.mechanism = Mechanism::ip_vs;
        test.merger.take(std::move(record));
    }
    REQUIRE(test.release(0) == 2);
    CHECK(test.out[0].committed == true);
}

TEST_CASE("without commits nothing waits, nothing is merged and nothing is claimed") {
    Fixture test({.sees_commits = false});
    test.merger.take(Fixture::decision(1, 0));
    test.merger.take(Fixture::decision(2, 1));
    REQUIRE(test.release(2) == 2);
    CHECK_FALSE(test.out[0].committed);
}

TEST_CASE("a decision made at confirm is committed already") {
    Fixture test({.sees_commits = false});
    auto record = Fixture::decision(1, 0);
    record.connection.committed = true;
    test.merger.take(std::move(record));
    REQUIRE(test.release(0) == 1);
    CHECK(test.out[0].committed == true);
}

TEST_CASE("a lost commit is never taken for a dropped packet") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 0));
    test.merger.commits_lost();
    REQUIRE(test.release(200 * ms) == 1);
    CHECK_FALSE(test.out[0].committed);
    // Nor is what follows taken for its repetition.
    test.merger.take(Fixture::decision(2, 300 * ms));
    REQUIRE(test.release(500 * ms) == 1);
    CHECK(test.out[1].committed == false);
}

TEST_CASE("at the end everything is handed over, claiming nothing") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 0));
    CHECK(test.merger.release_all([&](Connection&& connection) { test.out.push_back(std::move(connection)); }) == 1);
    CHECK_FALSE(test.out[0].committed);
    CHECK(test.merger.release_all([](Connection&&) {}) == 0);
}

TEST_CASE("memory is bounded: the oldest dropped connections are forgotten first") {
    Fixture test({.capacity = 2});
    for (std::uint16_t port = 1; port <= 3; ++port) {
        test.merger.take(Fixture::decision(port, 0, port));
    }
    CHECK(test.release(200 * ms) == 3);
    test.merger.take(Fixture::decision(10, 300 * ms, 3));  // remembered: merged
    CHECK(test.release(600 * ms) == 0);
    CHECK(test.merger.forgotten() == 1);
    test.merger.take(Fixture::decision(11, 700 * ms, 1));  // forgotten: shown again
    CHECK(test.release(1000 * ms) == 1);
    CHECK(test.merger.forgotten() == 2);
    // It makes no difference to forget what is over.
    test.merger.take(Fixture::decision(12, 200'000 * ms, 4));
    CHECK(test.release(200'200 * ms) == 1);
    CHECK(test.merger.forgotten() == 2);
}

TEST_CASE("a flood makes nothing of what is committed go under") {
    Fixture test({.capacity = 2});
    test.merger.take(Fixture::decision(1, 0, 1));
    test.merger.take(Fixture::decision(2, 1, 1));  // dropped, and tried again
    for (std::uint16_t port = 2; port <= 5; ++port) {
        test.merger.take(Fixture::decision(port + 1U, 2, port));
    }
    test.merger.take(Fixture::commit(2, 3, 1));
    test.release(1000 * ms);
    REQUIRE(test.out.size() == 5);
    CHECK(test.out[0].committed == true);
}

TEST_CASE("commits that are forgotten too soon are counted") {
    Fixture test({.capacity = 2});
    for (std::uint16_t port = 1; port <= 3; ++port) {
        test.merger.take(Fixture::decision(port, 0, port));
        test.merger.take(Fixture::commit(port, 1, port));
    }
    CHECK(test.release(2) == 3);
    CHECK(test.merger.forgotten() == 1);
    test.release(1000 * ms);
    CHECK(test.merger.forgotten() == 1);
}

TEST_CASE("a flood does not make the waiting line grow without end") {
    Fixture test({.capacity = 2});
    for (std::uint16_t port = 1; port <= 5; ++port) {
        test.merger.take(Fixture::decision(port, 0, port));
    }
    CHECK(test.release(1) == 3);
    CHECK_FALSE(test.out[0].committed);
}

TEST_CASE("it is known whether everything decided until then was handed over") {
    Fixture test;
    CHECK(test.merger.handed_over(10 * ms));
    test.merger.take(Fixture::decision(1, 10 * ms));
    test.merger.take(Fixture::decision(2, 20 * ms, 1001));
    CHECK(test.merger.handed_over(9 * ms));
    CHECK_FALSE(test.merger.handed_over(10 * ms));
    test.merger.take(Fixture::commit(2, 21 * ms, 1001));  // waits for the one before it
    test.release(30 * ms);
    CHECK_FALSE(test.merger.handed_over(10 * ms));
    test.merger.take(Fixture::commit(1, 31 * ms));
    CHECK(test.release(31 * ms) == 2);
    CHECK(test.merger.handed_over(20 * ms));
}

TEST_CASE("a repeat that will never be handed over is not waited for") {
    Fixture test;
    test.merger.take(Fixture::decision(1, 10 * ms));
    test.merger.take(Fixture::decision(2, 20 * ms));
    test.merger.take(Fixture::commit(1, 30 * ms));
    CHECK(test.release(30 * ms) == 1);
    CHECK(test.merger.handed_over(30 * ms));
    // One that may be is.
    test.merger.take(Fixture::decision(3, 1000 * ms));
    test.release(1200 * ms);
    test.merger.take(Fixture::decision(4, 2000 * ms));
    CHECK_FALSE(test.merger.handed_over(2000 * ms));
    test.release(2200 * ms);
    CHECK(test.merger.handed_over(2000 * ms));
}

namespace {

Observation clash(std::uint64_t ct, std::uint64_t at) {
    return Fixture::observation(Observation::Kind::clash, ct, at, 1000);
}

// A decision that is seen at confirm only.
Observation confirmed(std::uint64_t ct, std::uint64_t at) {
    auto record = Fixture::decision(ct, at);
    record.connection.committed = true;
    return record;
}

}  // namespace

TEST_CASE("a packet that met a committed one is no connection, though its entry came to the confirm, too") {
    Fixture test({.sees_clashes = true});
    test.merger.take(Fixture::decision(1, 0));
    test.merger.take(Fixture::commit(1, 1));
    test.merger.take(Fixture::decision(2, 2));
    test.merger.take(Fixture::commit(2, 3));  // seen at its entry
    CHECK(test.release(4) == 1);
    test.merger.take(clash(2, 5));
    CHECK(test.release(1000 * ms) == 0);
    // Nor does it stand in the way of the next one.
    test.merger.take(Fixture::decision(3, 2000 * ms));
    test.merger.take(Fixture::commit(3, 2001 * ms));
    CHECK(test.release(2001 * ms) == 1);
}

TEST_CASE("a port that is used again at once is a new connection as long as there is no clash") {
    Fixture test({.sees_clashes = true});
    test.merger.take(Fixture::decision(1, 0));
    test.merger.take(Fixture::commit(1, 1));
    test.merger.take(Fixture::decision(2, 2));
    test.merger.take(Fixture::commit(2, 3));
    CHECK(test.release(4) == 1);
    CHECK(test.release(201 * ms) == 1);
    REQUIRE(test.out.size() == 2);
    CHECK(test.out[1].committed == true);
    // So is one whose first packet is dropped.
    test.merger.take(Fixture::decision(3, 90 * ms));
    REQUIRE(test.release(300 * ms) == 1);
    CHECK(test.out[2].committed == false);
}

TEST_CASE("of two packets that meet, either may win") {
    for (const std::uint64_t loser : {1U, 2U}) {
        Fixture test({.sees_clashes = true});
        test.merger.take(Fixture::decision(1, 0));
        SECTION("both decided before one is committed") {
            test.merger.take(Fixture::decision(2, 1));
            test.merger.take(Fixture::commit(1, 2));
            test.merger.take(Fixture::commit(2, 3));
        }
        SECTION("one decided after the other one came to the confirm") {
            test.merger.take(Fixture::commit(1, 1));
            test.merger.take(Fixture::decision(2, 2));
            test.merger.take(Fixture::commit(2, 3));
        }
        SECTION("a commit is seen at its return") {
            test.merger.take(Fixture::decision(2, 1));
            test.merger.take(clash(loser, 2));
            test.merger.take(Fixture::commit(3 - loser, 3));
            test.merger.take(Fixture::commit(3 - loser, 4));  // the winner's entry has become the loser's
            CHECK(test.release(1000 * ms) == 1);
            continue;
        }
        test.merger.take(clash(loser, 4));
        CHECK(test.release(1000 * ms) == 1);
    }
}

TEST_CASE("of packets that meet when a port is used again one makes a connection") {
    for (const std::uint64_t loser : {2U, 3U}) {
        Fixture test({.sees_clashes = true});
        test.merger.take(Fixture::decision(1, 0));
        test.merger.take(Fixture::commit(1, 1));
        test.merger.take(Fixture::decision(2, 2));
        test.merger.take(Fixture::decision(3, 3));
        test.merger.take(clash(loser, 4));
        test.merger.take(Fixture::commit(5 - loser, 5));
        CHECK(test.release(1000 * ms) == 2);
    }
}

TEST_CASE("many packets that meet are one connection") {
    Fixture test({.sees_clashes = true});
    test.merger.take(Fixture::decision(1, 0));
    test.merger.take(Fixture::commit(1, 1));
    test.merger.take(Fixture::decision(2, 2));
    test.merger.take(Fixture::commit(2, 3));
    test.merger.take(Fixture::decision(3, 4));
    test.merger.take(Fixture::decision(4, 5));
    for (const std::uint64_t loser : {3U, 2U, 4U}) {
        test.merger.take(clash(loser, 6));
    }
    CHECK(test.release(1000 * ms) == 1);
}

TEST_CASE("decisions seen at confirm: a clash takes one of them away") {
    for (const std::uint64_t loser : {1U, 2U}) {
        Fixture test({.sees_commits = false, .sees_clashes = true});
        test.merger.take(confirmed(1, 0));
        CHECK(test.release(1) == 1);
        test.merger.take(confirmed(2, 2));
        CHECK(test.release(3) == 0);
        test.merger.take(clash(loser, 4));
        CHECK(test.release(1000 * ms) == 0);
    }
    Fixture test({.sees_commits = false, .sees_clashes = true});
    test.merger.take(confirmed(1, 0));
    test.merger.take(confirmed(2, 2));
    CHECK(test.release(202 * ms) == 2);
}

TEST_CASE("a clash of other tuples takes nothing away") {
    Fixture test({.sees_clashes = true});
    test.merger.take(Fixture::decision(1, 0));
    test.merger.take(Fixture::commit(1, 1));
    test.merger.take(Fixture::decision(2, 2));
    test.merger.take(Fixture::observation(Observation::Kind::clash, 2, 3, 2000));
    test.merger.take(Fixture::commit(2, 4));
    CHECK(test.release(1000 * ms) == 2);
}

TEST_CASE("the memory of an entry that lost may serve the next connection: its own was committed all the same") {
    Fixture test({.sees_clashes = true});
    test.merger.take(Fixture::decision(1, 0));
    test.merger.take(Fixture::decision(2, 1));
    test.merger.take(clash(1, 2));
    SECTION("after the commit") {
        test.merger.take(Fixture::commit(2, 3));
        test.merger.take(Fixture::decision(1, 4, 2000));
    }
    SECTION("before the commit") {
        test.merger.take(Fixture::decision(1, 3, 2000));
        test.merger.take(Fixture::commit(2, 4));
    }
    CHECK(test.release(1000 * ms) == 2);
    CHECK(test.out[0].committed == true);
    CHECK(test.out[1].committed == false);
}

TEST_CASE("tens of thousands of clashes while as many decisions wait") {
    // Were each of them to look at all that waits, this would take minutes, and hptrace lose records.
    constexpr std::size_t count = 30'000;
    for (const bool same_tuples : {false, true}) {
        Fixture test({.sees_clashes = true});
        const auto port = [same_tuples](std::size_t i) { return static_cast<std::uint16_t>(same_tuples ? 0 : i); };
        for (std::size_t i = 0; i < count; ++i) {
            test.merger.take(Fixture::decision(1 + i, 0, port(i)));
        }
        for (std::size_t i = 0; i < count; ++i) {
            test.merger.take(Fixture::observation(Observation::Kind::clash, 1 + i, 1, port(i)));
        }
        // Of packets that meet one gets through.
        CHECK(test.release(1000 * ms) == (same_tuples ? 1 : count));
    }
}
