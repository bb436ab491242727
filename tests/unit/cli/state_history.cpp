// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/state_history.hpp"

#include <catch2/catch_test_macros.hpp>

#include "cli/fake_node.hpp"

using namespace hptrace;
using namespace hptrace::test;

TEST_CASE("a connection is judged by the state it was made under") {
    FakeNode node;
    auto history = node.history();
    const auto first = history.refresh();
    const auto found = history.around(made_under(node.changes));
    CHECK(found.before == first);
    CHECK(found.after == first);
    CHECK(node.reads == 1);
}

TEST_CASE("a newer connection makes it read again, an older one finds its state") {
    FakeNode node;
    auto history = node.history();
    const auto first = history.refresh();
    const auto old = made_under(node.changes);
    node.change(HPTRACE_SOURCE_NFTABLES);
    const auto found = history.around(made_under(node.changes));
    CHECK(node.reads == 2);
    CHECK(found.before != first);
    CHECK(found.before == found.after);
    const auto earlier = history.around(old);
    CHECK(earlier.before == first);
    CHECK(earlier.after == first);
    CHECK(node.reads == 2);
}

TEST_CASE("a connection between two reads has two neighbours") {
    FakeNode node;
    auto history = node.history();
    const auto first = history.refresh();
    node.change(HPTRACE_SOURCE_IPVS);
    const auto between = made_under(node.changes);
    node.change(HPTRACE_SOURCE_IPVS);  // before anyone could read
    const auto found = history.around(between);
    CHECK(found.before == first);
    CHECK(found.after == history.newest());
    CHECK(found.before != found.after);
}

TEST_CASE("a connection made during a change has two neighbours") {
    FakeNode node;
    auto history = node.history();
    const auto first = history.refresh();
    ++node.changes.begin[HPTRACE_SOURCE_XTABLES];
    const auto during = made_under(node.changes);
    SECTION("the change is over when it is read") {
        ++node.changes.end[HPTRACE_SOURCE_XTABLES];
        const auto found = history.around(during);
        CHECK(found.before == first);
        CHECK(found.after == history.newest());
        CHECK(found.after != first);
    }
    SECTION("it is not: what was read counts for nothing") {
        const auto found = history.around(during);
        CHECK(found.before == first);
        CHECK(found.after == nullptr);
    }
}

TEST_CASE("an inconsistent read counts for nothing") {
    FakeNode node;
    node.consistent = false;
    auto history = node.history();
    const auto found = history.around(made_under(node.changes));
    CHECK(found.before == nullptr);
    CHECK(found.after == nullptr);
}

TEST_CASE("the nearest neighbours are found among several") {
    FakeNode node;
    auto history = node.history();
    std::vector<NodeStatePtr> states;
    std::vector<Connection> connections;  // [i]: between states i and i + 1
    for (int i = 0; i < 4; ++i) {
        states.push_back(history.refresh());
        node.change(HPTRACE_SOURCE_NFTABLES);
        connections.push_back(made_under(node.changes));
        node.change(HPTRACE_SOURCE_NFTABLES);
    }
    const auto found = history.around(connections[1]);
    CHECK(found.before == states[1]);
    CHECK(found.after == states[2]);
}

TEST_CASE("only the last states are kept") {
    FakeNode node;
    auto history = node.history();
    const auto old = made_under(node.changes);
    history.refresh();
    for (int i = 0; i < 4; ++i) {
        node.change(HPTRACE_SOURCE_NFTABLES);
        history.refresh();
    }
    const auto found = history.around(old);
    CHECK(found.before == nullptr);
    REQUIRE(found.after != nullptr);
    CHECK(found.after->changes.end[HPTRACE_SOURCE_NFTABLES] == 1);  // the oldest that is left
}

TEST_CASE("counters that nobody counts are not compared") {
    FakeNode node;
    node.tracked = 1U << HPTRACE_SOURCE_NFTABLES;
    auto history = node.history();
    const auto first = history.refresh();
    CHECK_FALSE(history.all_tracked());
    auto connection = made_under(node.changes);
    connection.changes.begin[HPTRACE_SOURCE_IPVS] = 77;
    CHECK(history.around(connection).before == first);
    CHECK(node.reads == 1);
    node.tracked = 7;
    CHECK(history.all_tracked());
}

TEST_CASE("counters may wrap around") {
    FakeNode node;
    node.changes.begin[0] = node.changes.end[0] = UINT32_MAX;
    auto history = node.history();
    const auto first = history.refresh();
    const auto old = made_under(node.changes);
    node.change(0);
    CHECK(node.changes.end[0] == 0);
    const auto found = history.around(made_under(node.changes));
    CHECK(node.reads == 2);
    CHECK(found.before == found.after);
    CHECK(found.after != first);
    CHECK(history.around(old).before == first);
}

TEST_CASE("existing connections are judged by the last read") {
    FakeNode node;
    auto history = node.history();
    history.refresh();
    node.change(HPTRACE_SOURCE_NFTABLES);
    const auto last = history.refresh();
    Connection connection;
    connection.existing = true;
    const auto found = history.around(connection);
    CHECK(found.before == last);
    CHECK(found.after == last);
    CHECK(node.reads == 2);
}
