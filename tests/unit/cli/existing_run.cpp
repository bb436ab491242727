// SPDX-License-Identifier: GPL-2.0-or-later
// Connections that exist, from a real conntrack, judged beside a trace: piece by piece.
#include "cli/existing_run.hpp"

#include <poll.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <map>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "many_connections.hpp"
#include "state/fresh_netns.hpp"

using namespace hptrace;

namespace {

constexpr std::size_t many = 20'000;

struct Seen {
    std::map<Endpoint, int> clients;  // how often each was told
    std::size_t most_waiting = 0;
    std::vector<std::string> problems;
};

// Goes through all of them. live: seen being made meanwhile. all_came: as ExistingRun::turn takes it.
Seen judge_all(const std::vector<Connection>& live, const ExistingRun::AllCame& all_came) {
    Seen seen;
    const auto here = current_netns_inode().value();
    auto namespaces = TracedNamespaces::start({.here = here}).value();
    ExistingRun run(*namespaces, namespaces->existing(false, [](const Connection&) { return true; }));
    for (const auto& connection : live) {
        run.saw(connection);
    }
    while (!run.over() || namespaces->existing_waiting() > 0) {
        std::vector<pollfd> wait;
        for (const int descriptor : namespaces->descriptors()) {
            wait.push_back({.fd = descriptor, .events = POLLIN, .revents = 0});
        }
        static_cast<void>(::poll(wait.data(), wait.size(), 10));
        namespaces->turn();
        if (auto problem = run.turn(all_came)) {
            seen.problems.push_back(*std::move(problem));
        }
        seen.most_waiting = std::max(seen.most_waiting, namespaces->existing_waiting());
        namespaces->judge([&seen](const Finding& finding) { ++seen.clients[finding.connection.client]; });
    }
    return seen;
}

bool each_once(const Seen& seen) {
    return std::ranges::all_of(seen.clients, [](const auto& client) { return client.second == 1; });
}

}  // namespace

TEST_CASE("existing connections are judged piece by piece, each once") {
    const auto seen = in_fresh_netns([] {
        make_connections(many);
        return judge_all({}, [](std::uint64_t) { return true; });
    });
    CHECK(seen.clients.size() == many);
    CHECK(each_once(seen));
    CHECK(seen.problems.empty());
    CHECK(seen.most_waiting <= 5 * ConntrackDump::piece + 1000);
}

TEST_CASE("what is seen being made does not exist already, also if its decision comes late") {
    const auto seen = in_fresh_netns([] {
        make_connections(many);
        Connection live;
        live.netns = current_netns_inode().value();
        live.client = parse_endpoint("10.224.0.1:1500").value();
        live.original = parse_endpoint("10.96.0.1:80").value();
        int asked = 0;
        // Decisions of before the first piece come some turns after it.
        return judge_all({live}, [&asked](std::uint64_t boot_ns) { return boot_ns <= boot_clock_ns() && ++asked > 3; });
    });
    CHECK(seen.clients.size() == many - 1);
    CHECK_FALSE(seen.clients.contains(parse_endpoint("10.224.0.1:1500").value()));
}

TEST_CASE("of what is to be judged only so much waits, the rest is counted") {
    const auto overflowed = in_fresh_netns([] {
        const auto here = current_netns_inode().value();
        auto namespaces = TracedNamespaces::start({.here = here}).value();
        Connection connection;
        connection.netns = here;
        for (std::size_t i = 0; i < TracedNamespaces::most_waiting + 3; ++i) {
            namespaces->take(connection);
        }
        std::size_t told = 0;
        while (namespaces->judge([&told](const Finding&) { ++told; }, LiveJudge::Haste::now)) {
        }
        return std::pair{namespaces->overflowed(), told};
    });
    CHECK(overflowed == std::pair{std::uint64_t{3}, TracedNamespaces::most_waiting});
}
