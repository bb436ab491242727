// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/state_history.hpp"

#include <catch2/catch_test_macros.hpp>

#include "cli/fake_node.hpp"

using namespace hptrace;
using namespace hptrace::test;

TEST_CASE("a connection is judged by the state it was made under") {
    FakeNode node;
    auto history = node.history();
    const auto first = history.refresh().state;
    const auto found = history.around(node.taken());
    CHECK(found.before.state == first);
    CHECK(found.after.state == first);
    CHECK(node.reads == 1);
}

TEST_CASE("a newer connection has no state after it until one is read, an older one finds its state") {
    FakeNode node;
    auto history = node.history();
    const auto first = history.refresh().state;
    const auto old = node.taken();
    node.change(HPTRACE_SOURCE_NFTABLES);
    const auto fresh = node.taken();
    CHECK(history.around(fresh).before.state == first);
    CHECK(history.around(fresh).after.state == nullptr);
    CHECK(node.reads == 1);
    history.refresh();
    const auto found = history.around(fresh);
    CHECK(found.before.state != first);
    CHECK(found.before.state == found.after.state);
    const auto earlier = history.around(old);
    CHECK(earlier.before.state == first);
    CHECK(earlier.after.state == first);
}

TEST_CASE("a connection between two reads has two neighbours") {
    FakeNode node;
    auto history = node.history();
    const auto first = history.refresh().state;
    node.change(HPTRACE_SOURCE_IPVS);
    const auto between = node.taken();
    node.change(HPTRACE_SOURCE_IPVS);  // before anyone could read
    const auto second = history.refresh().state;
    const auto found = history.around(between);
    CHECK(found.before.state == first);
    CHECK(found.after.state == second);
    CHECK(first != second);
}

TEST_CASE("a connection made during a change has two neighbours") {
    FakeNode node;
    auto history = node.history();
    const auto first = history.refresh().state;
    ++node.changes.begin[HPTRACE_SOURCE_XTABLES];
    const auto during = node.taken();
    SECTION("the change is over when it is read") {
        ++node.changes.end[HPTRACE_SOURCE_XTABLES];
        const auto second = history.refresh().state;
        const auto found = history.around(during);
        CHECK(found.before.state == first);
        CHECK(found.after.state == second);
        CHECK(found.after.state != first);
    }
    SECTION("it is not: what was read counts for nothing") {
        history.refresh();
        const auto found = history.around(during);
        CHECK(found.before.state == first);
        CHECK(found.after.state == nullptr);
    }
}

TEST_CASE("a read that something changed during is a neighbour, nobody's own state") {
    FakeNode node;
    auto history = node.history();
    const auto early = node.taken();
    node.changes_while_read = true;
    const auto torn = history.refresh().state;
    node.changes_while_read = false;
    const auto late = node.taken();
    CHECK(history.around(early).before.state == nullptr);
    CHECK(history.around(early).after.state == torn);
    CHECK(history.around(late).before.state == torn);
    CHECK(history.around(late).after.state == nullptr);
    CHECK_FALSE(history.due());
    node.now += second;
    CHECK(history.due());  // though the counters are those it ended with
    const auto settled = history.refresh().state;
    CHECK(history.around(late).before.state == settled);
    CHECK(history.around(late).after.state == settled);
}

TEST_CASE("a connection counted while a change began and ended is neither side's") {
    FakeNode node;
    auto history = node.history();
    const auto before = history.refresh().state;
    auto odd = node.taken();
    node.change(HPTRACE_SOURCE_IPVS);
    odd.changes.end[HPTRACE_SOURCE_IPVS] = 1;  // copied after the beginnings were
    const auto after = history.refresh().state;
    CHECK(history.around(odd).before.state == before);
    CHECK(history.around(odd).after.state == after);
}

TEST_CASE("the nearest neighbours are found among several") {
    FakeNode node;
    auto history = node.history();
    std::vector<NodeStatePtr> states;
    std::vector<Connection> connections;  // [i]: between states i and i + 1
    for (int i = 0; i < 4; ++i) {
        states.push_back(history.refresh().state);
        node.change(HPTRACE_SOURCE_NFTABLES);
        connections.push_back(node.taken());
        node.change(HPTRACE_SOURCE_NFTABLES);
    }
    const auto found = history.around(connections[1]);
    CHECK(found.before.state == states[1]);
    CHECK(found.after.state == states[2]);
}

TEST_CASE("only the last states are kept") {
    FakeNode node;
    auto history = node.history();
    const auto old = node.taken();
    history.refresh();
    for (int i = 0; i < 4; ++i) {
        node.change(HPTRACE_SOURCE_NFTABLES);
        history.refresh();
    }
    const auto found = history.around(old);
    CHECK(found.before.state == nullptr);
    REQUIRE(found.after.state != nullptr);
    CHECK(found.after.changes.end[HPTRACE_SOURCE_NFTABLES] == 1);  // the oldest that is left
}

TEST_CASE("counters that nobody counts are not compared") {
    FakeNode node;
    node.tracked = 1U << HPTRACE_SOURCE_NFTABLES;
    auto history = node.history();
    const auto first = history.refresh().state;
    auto connection = node.taken();
    connection.changes.begin[HPTRACE_SOURCE_IPVS] = 77;
    CHECK(history.around(connection).before.state == first);
    CHECK(history.around(connection).after.state == first);
}

TEST_CASE("where something changes uncounted the state is read every second, and every connection has two neighbours") {
    FakeNode node;
    node.tracked = 1U << HPTRACE_SOURCE_NFTABLES;
    node.incomplete = true;
    auto history = node.history();
    const auto first = history.refresh().state;
    const auto connection = node.taken();
    CHECK(history.around(connection).before.state == first);
    CHECK(history.around(connection).after.state == nullptr);
    CHECK_FALSE(history.due());
    node.now += second;
    CHECK(history.due());
    const auto next = history.refresh().state;
    const auto found = history.around(connection);
    CHECK(found.before.state == first);
    CHECK(found.after.state == next);
    CHECK(found.changed_between);
    node.read_takes = second;
    history.refresh();
    node.now += 9 * second;
    CHECK_FALSE(history.due());  // reading takes a tenth of the time at most
    node.now += second;
    CHECK(history.due());
}

TEST_CASE("counters may wrap around") {
    FakeNode node;
    node.changes.begin[0] = node.changes.end[0] = UINT32_MAX;
    auto history = node.history();
    const auto first = history.refresh().state;
    const auto old = node.taken();
    node.change(0);
    CHECK(node.changes.end[0] == 0);
    const auto fresh = node.taken();
    CHECK(history.around(fresh).after.state == nullptr);
    node.now += second;
    CHECK(history.due());
    history.refresh();
    const auto found = history.around(fresh);
    CHECK(found.before.state == found.after.state);
    CHECK(found.after.state != first);
    CHECK(history.around(old).before.state == first);
    node.now += second;
    CHECK_FALSE(history.due());
}

TEST_CASE("under the same counters time tells which of two states a connection was made under") {
    FakeNode node;
    auto history = node.history();
    const auto first = history.refresh().state;
    const auto early = node.taken();
    const auto other = history.refresh().state;  // an address came: nobody counts that
    const auto late = node.taken();
    CHECK(history.around(early).before.state == first);
    CHECK(history.around(early).after.state == other);
    CHECK(history.around(late).before.state == other);
    CHECK(history.around(late).after.state == other);
}

TEST_CASE("existing connections have the reads around the dump of conntrack") {
    FakeNode node;
    auto history = node.history();
    const auto before = history.refresh().state;
    Connection connection;
    connection.existing = true;
    connection.boot_ns = node.now++;
    CHECK(history.around(connection).before.state == before);
    CHECK(history.around(connection).after.state == nullptr);
    node.change(HPTRACE_SOURCE_NFTABLES);
    const auto after = history.refresh().state;
    CHECK(history.around(connection).before.state == before);
    CHECK(history.around(connection).after.state == after);
}

TEST_CASE("reads take a tenth of the time, and nothing waits longer than a second") {
    FakeNode node;
    auto history = node.history();
    const auto pause_after_a_read_of = [&](std::uint64_t cost) {
        node.read_takes = cost;
        history.refresh();
        std::uint64_t pause = 0;
        for (; !history.may_refresh(); pause += 10 * millisecond) {
            node.now += 10 * millisecond;
        }
        return pause;
    };
    CHECK(pause_after_a_read_of(0) == 100 * millisecond);
    CHECK(pause_after_a_read_of(20 * millisecond) == 200 * millisecond);
    CHECK(pause_after_a_read_of(5 * second) == second);
}

TEST_CASE("a state that is not asked for ages a second at least, longer where reading is dear") {
    FakeNode node;
    auto history = node.history();
    node.read_takes = second / 2;
    history.refresh();
    node.now += 20 * second;
    CHECK_FALSE(history.due());  // nothing changed
    node.change(HPTRACE_SOURCE_XTABLES);
    node.now += 4 * second;
    CHECK_FALSE(history.due());
    node.now += second;
    CHECK(history.due());
    node.read_takes = millisecond;
    history.refresh();
    node.announced = true;
    CHECK_FALSE(history.due());
    node.now += second;
    CHECK(history.due());
}
