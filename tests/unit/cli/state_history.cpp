// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/state_history.hpp"

#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <vector>

#include "cli/fake_node.hpp"

using namespace hptrace;
using namespace hptrace::test;

TEST_CASE("a connection is judged by the state it was made under") {
    FakeNode node;
    auto& history = node.history();
    const auto first = node.read().state;
    const auto found = history.around(node.taken());
    CHECK(found.before.state == first);
    CHECK(found.after.state == first);
    CHECK(node.reads == 1);
}

TEST_CASE("a newer connection has no state after it until one is read, an older one finds its state") {
    FakeNode node;
    auto& history = node.history();
    const auto first = node.read().state;
    const auto old = node.taken();
    node.change(HPTRACE_SOURCE_NFTABLES);
    const auto fresh = node.taken();
    CHECK(history.around(fresh).before.state == first);
    CHECK(history.around(fresh).after.state == nullptr);
    CHECK(node.reads == 1);
    node.read();
    const auto found = history.around(fresh);
    CHECK(found.before.state != first);
    CHECK(found.before.state == found.after.state);
    const auto earlier = history.around(old);
    CHECK(earlier.before.state == first);
    CHECK(earlier.after.state == first);
}

TEST_CASE("a connection between two reads has two neighbours") {
    FakeNode node;
    auto& history = node.history();
    const auto first = node.read().state;
    node.change(HPTRACE_SOURCE_IPVS);
    const auto between = node.taken();
    node.change(HPTRACE_SOURCE_IPVS);  // before anyone could read
    const auto second = node.read().state;
    const auto found = history.around(between);
    CHECK(found.before.state == first);
    CHECK(found.after.state == second);
    CHECK(first != second);
}

TEST_CASE("a connection made during a change has two neighbours") {
    FakeNode node;
    auto& history = node.history();
    const auto first = node.read().state;
    ++node.changes.begin[HPTRACE_SOURCE_XTABLES];
    const auto during = node.taken();
    SECTION("the change is over when it is read") {
        ++node.changes.end[HPTRACE_SOURCE_XTABLES];
        const auto second = node.read().state;
        const auto found = history.around(during);
        CHECK(found.before.state == first);
        CHECK(found.after.state == second);
        CHECK(found.after.state != first);
    }
    SECTION("it is not: what was read counts for nothing") {
        node.read();
        const auto found = history.around(during);
        CHECK(found.before.state == first);
        CHECK(found.after.state == nullptr);
    }
}

TEST_CASE("a read that something changed during is a neighbour, nobody's own state") {
    FakeNode node;
    auto& history = node.history();
    const auto early = node.taken();
    node.changes_while_read = true;
    const auto torn = node.read().state;
    node.changes_while_read = false;
    const auto late = node.taken();
    CHECK(history.around(early).before.state == nullptr);
    CHECK(history.around(early).after.state == torn);
    CHECK(history.around(late).before.state == torn);
    CHECK(history.around(late).after.state == nullptr);
    CHECK_FALSE(node.due());
    node.now += second;
    CHECK(node.due());  // though the counters are those it ended with
    const auto settled = node.read().state;
    CHECK(history.around(late).before.state == settled);
    CHECK(history.around(late).after.state == settled);
}

TEST_CASE("a connection counted while a change began and ended is neither side's") {
    FakeNode node;
    auto& history = node.history();
    const auto before = node.read().state;
    auto odd = node.taken();
    node.change(HPTRACE_SOURCE_IPVS);
    odd.changes.end[HPTRACE_SOURCE_IPVS] = 1;  // copied after the beginnings were
    const auto after = node.read().state;
    CHECK(history.around(odd).before.state == before);
    CHECK(history.around(odd).after.state == after);
}

TEST_CASE("the nearest neighbours are found among several") {
    FakeNode node;
    auto& history = node.history();
    std::vector<NodeStatePtr> states;
    std::vector<Connection> connections;  // [i]: between states i and i + 1
    for (int i = 0; i < 4; ++i) {
        states.push_back(node.read().state);
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
    auto& history = node.history();
    const auto old = node.taken();
    node.read();
    for (int i = 0; i < 4; ++i) {
        node.now += second;
        node.change(HPTRACE_SOURCE_NFTABLES);
        node.read();
    }
    const auto found = history.around(old);
    CHECK(found.before.state == nullptr);
    REQUIRE(found.after.state != nullptr);
    CHECK(found.after.changes.end[HPTRACE_SOURCE_NFTABLES] == 1);  // the oldest that is left
}

TEST_CASE("counters that nobody counts are not compared") {
    FakeNode node;
    node.tracked = 1U << HPTRACE_SOURCE_NFTABLES;
    auto& history = node.history();
    const auto first = node.read().state;
    auto connection = node.taken();
    connection.changes.begin[HPTRACE_SOURCE_IPVS] = 77;
    CHECK(history.around(connection).before.state == first);
    CHECK(history.around(connection).after.state == first);
}

TEST_CASE("where something changes uncounted the state is read every second, and every connection has two neighbours") {
    FakeNode node;
    node.tracked = 1U << HPTRACE_SOURCE_NFTABLES;
    node.incomplete = true;
    auto& history = node.history();
    const auto first = node.read().state;
    const auto connection = node.taken();
    CHECK(history.around(connection).before.state == first);
    CHECK(history.around(connection).after.state == nullptr);
    CHECK_FALSE(node.due());
    node.now += second;
    CHECK(node.due());
    const auto next = node.read().state;
    const auto found = history.around(connection);
    CHECK(found.before.state == first);
    CHECK(found.after.state == next);
    CHECK(found.changed_between);
    node.read_takes = second;
    node.read();
    node.now += 9 * second;
    CHECK_FALSE(node.due());  // reading takes a tenth of the time at most
    node.now += second;
    CHECK(node.due());
}

TEST_CASE("counters may wrap around") {
    FakeNode node;
    node.changes.begin[0] = node.changes.end[0] = UINT32_MAX;
    auto& history = node.history();
    const auto first = node.read().state;
    const auto old = node.taken();
    node.change(0);
    CHECK(node.changes.end[0] == 0);
    const auto fresh = node.taken();
    CHECK(history.around(fresh).after.state == nullptr);
    node.now += second;
    CHECK(node.due());
    node.read();
    const auto found = history.around(fresh);
    CHECK(found.before.state == found.after.state);
    CHECK(found.after.state != first);
    CHECK(history.around(old).before.state == first);
    node.now += second;
    CHECK_FALSE(node.due());
}

TEST_CASE("under the same counters time tells which of two states a connection was made under") {
    FakeNode node;
    auto& history = node.history();
    const auto first = node.read().state;
    const auto early = node.taken();
    const auto other = node.read().state;  // an address came: nobody counts that
    const auto late = node.taken();
    CHECK(history.around(early).before.state == first);
    CHECK(history.around(early).after.state == other);
    CHECK(history.around(late).before.state == other);
    CHECK(history.around(late).after.state == other);
}

TEST_CASE("existing connections have the reads around the dump of conntrack") {
    FakeNode node;
    auto& history = node.history();
    const auto before = node.read().state;
    Connection connection;
    connection.existing = true;
    connection.boot_ns = node.now++;
    CHECK(history.around(connection).before.state == before);
    CHECK(history.around(connection).after.state == nullptr);
    node.change(HPTRACE_SOURCE_NFTABLES);
    const auto after = node.read().state;
    CHECK(history.around(connection).before.state == before);
    CHECK(history.around(connection).after.state == after);
}

TEST_CASE("reads take a tenth of the time, but what waits is judged within two seconds") {
    FakeNode node;
    auto& history = node.history();
    node.read();
    const auto pause_after_a_read_of = [&](std::uint64_t cost) {
        node.read_takes = cost;
        node.read();
        std::uint64_t pause = 0;
        for (history.ask(StateHistory::Question::state); !node.asked; history.ask(StateHistory::Question::state)) {
            node.now += 10 * millisecond;
            pause += 10 * millisecond;
        }
        return pause;
    };
    CHECK(pause_after_a_read_of(0) == 100 * millisecond);
    CHECK(pause_after_a_read_of(20 * millisecond) == 200 * millisecond);
    CHECK(pause_after_a_read_of(400 * millisecond) == 500 * millisecond);
    // The next one may cost as much again.
    CHECK(pause_after_a_read_of(20 * millisecond) == 500 * millisecond);
    CHECK(2 * 700 * millisecond + pause_after_a_read_of(700 * millisecond) <= 2 * second);
    CHECK(pause_after_a_read_of(13 * second) == 100 * millisecond);
}

TEST_CASE("the second read follows the first at once, as connections that exist already wait for it") {
    FakeNode node;
    auto& history = node.history();
    node.read_takes = 400 * millisecond;
    node.read();
    history.ask(StateHistory::Question::state);
    CHECK(node.asked);
    node.read();
    history.ask(StateHistory::Question::state);
    CHECK_FALSE(node.asked);
}

TEST_CASE("one question at a time is asked") {
    FakeNode node;
    auto& history = node.history();
    node.read();
    history.ask(StateHistory::Question::state);
    CHECK(node.asked == StateHistory::Question::state);
    node.asked.reset();  // it is being read
    node.now += 10 * second;
    history.ask(StateHistory::Question::state, StateHistory::Pause::no);
    history.ask(StateHistory::Question::news);
    CHECK_FALSE(node.asked);
    node.read();
    history.ask(StateHistory::Question::state);
    CHECK_FALSE(node.asked);
    history.ask(StateHistory::Question::state, StateHistory::Pause::no);
    CHECK(node.asked);
}

TEST_CASE("a state that nobody waits for ages a second at least, longer where reading is dear, but not for ever") {
    FakeNode node;
    node.read_takes = second / 2;
    node.read();
    node.now += 20 * second;
    CHECK_FALSE(node.due());  // nothing changed
    node.read();
    node.change(HPTRACE_SOURCE_XTABLES);
    node.now += 4 * second;
    CHECK_FALSE(node.due());
    node.now += second;
    CHECK(node.due());
    node.read_takes = 13 * second;
    node.read();
    node.change(HPTRACE_SOURCE_XTABLES);
    node.now += 9 * second;
    CHECK_FALSE(node.due());
    node.now += second;
    CHECK(node.due());
    node.read_takes = millisecond;
    node.read();
    node.announced = true;
    CHECK_FALSE(node.due());
    node.now += second;
    CHECK(node.due());
}

TEST_CASE("reads are kept for as long as a decision may wait, and few where they are dear") {
    FakeNode node;
    auto& history = node.history();
    node.read();
    node.change(HPTRACE_SOURCE_NFTABLES);
    const auto decision = node.taken();
    const auto begun = node.now;
    while (node.now - begun < 2 * second) {
        node.change(HPTRACE_SOURCE_NFTABLES);
        node.read();
        node.now += 100 * millisecond;
    }
    CHECK(history.around(decision).before.changes.end[HPTRACE_SOURCE_NFTABLES] == 0);
    CHECK(history.around(decision).after.changes.end[HPTRACE_SOURCE_NFTABLES] == 2);
    // An old one is given up: nothing that old waits.
    const auto kept = std::weak_ptr<const NodeState>(history.around(decision).before.state);
    for (int i = 0; i < 3; ++i) {
        node.now += 2 * second;
        node.read();
    }
    CHECK(kept.expired());
}

TEST_CASE("what still waits keeps the reads around it") {
    FakeNode node;
    auto& history = node.history();
    const auto before = node.read().state;
    const auto waits = node.taken();
    const auto after = node.read().state;
    for (int i = 0; i < 20; ++i) {
        node.now += second;
        history.add(node.begin_read(), waits.boot_ns);
    }
    CHECK(history.around(waits).before.state == before);
    CHECK(history.around(waits).after.state == after);
    for (int i = 0; i < 20; ++i) {  // however long: so many at most
        history.add(node.begin_read(), waits.boot_ns);
    }
    CHECK(history.around(waits).before.state != before);
}

TEST_CASE("what cannot be read any more leaves what was read before") {
    FakeNode node;
    auto& history = node.history();
    const auto before = node.read().state;
    node.change(HPTRACE_SOURCE_NFTABLES);
    const auto decision = node.taken();
    history.ask(StateHistory::Question::state, StateHistory::Pause::no);
    node.asked.reset();
    history.unreadable();
    CHECK(history.newest().state == before);
    CHECK(history.around(decision).before.state == before);
    CHECK(history.around(decision).after.state == nullptr);
    history.ask(StateHistory::Question::state, StateHistory::Pause::no);
    CHECK(node.asked);  // it was answered
}

TEST_CASE("packets on their way through old rules: until a grace period is over, the state before is a neighbour") {
    FakeNode node;
    node.graces = true;
    auto& history = node.history();
    CHECK(history.wants_grace());
    history.grace_begins();
    CHECK_FALSE(history.wants_grace());
    history.grace_over(node.now++);
    CHECK_FALSE(history.wants_grace());
    const auto first = node.read().state;
    CHECK(history.around(node.taken()).before.state == first);
    CHECK(history.around(node.taken()).after.state == first);

    const auto source = static_cast<unsigned>(HPTRACE_SOURCE_NFTABLES);
    node.change(source);
    const auto second_state = node.read().state;
    CHECK(history.wants_grace());
    history.grace_begins();
    // A packet that is held up for a second keeps the grace period from ending.
    node.now += second;
    const auto held_up = node.taken();
    history.grace_over(node.now++);
    const auto later = node.taken();
    const auto found = history.around(held_up);
    CHECK(found.before.state == first);
    CHECK(found.after.state == second_state);
    CHECK(found.changed_between);
    CHECK(history.around(later).before.state == second_state);
    CHECK(history.around(later).after.state == second_state);
    CHECK_FALSE(history.around(later).changed_between);
}

TEST_CASE("a grace period that began before the last change says nothing of it") {
    FakeNode node;
    node.graces = true;
    auto& history = node.history();
    history.grace_begins();
    history.grace_over(node.now++);
    const auto first = node.read().state;
    history.grace_begins();
    node.change(HPTRACE_SOURCE_NFTABLES);
    node.read();
    history.grace_over(node.now++);
    CHECK(history.around(node.taken()).before.state == first);
    CHECK(history.wants_grace());
}

TEST_CASE("several changes within one grace period: every ruleset that may have been met is looked at") {
    FakeNode node;
    node.graces = true;
    auto& history = node.history();
    history.grace_begins();
    history.grace_over(node.now++);
    const auto first = node.read().state;
    node.change(HPTRACE_SOURCE_NFTABLES);
    const auto between = node.read().state;
    node.change(HPTRACE_SOURCE_NFTABLES);
    const auto last = node.read().state;
    const auto found = history.around(node.taken());
    CHECK(found.before.state == first);
    CHECK(found.after.state == last);
    CHECK(found.between == std::vector{between});
}

TEST_CASE("xtables waits for packets itself") {
    FakeNode node;
    node.graces = true;
    auto& history = node.history();
    history.grace_begins();
    history.grace_over(node.now++);
    node.read();
    node.change(HPTRACE_SOURCE_XTABLES);
    CHECK_FALSE(history.wants_grace());
    const auto next = node.read().state;
    CHECK(history.around(node.taken()).before.state == next);
}

TEST_CASE("before the first grace period nothing is certain, and a history that begins later knows of it") {
    FakeNode node;
    node.graces = true;
    auto& history = node.history();
    const auto first = node.read().state;
    CHECK(history.around(node.taken()).before.state == nullptr);
    CHECK(history.around(node.taken()).after.state == first);
    history.known_grace({}, node.now++);
    CHECK(history.around(node.taken()).before.state == first);
}
