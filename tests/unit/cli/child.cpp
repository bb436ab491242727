// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/child.hpp"

#include <poll.h>

#include <catch2/catch_test_macros.hpp>
#include <csignal>

#include "cli/signals.hpp"

using namespace hptrace;

namespace {

// Waits for SIGCHLD as the trace does.
std::string outcome(const std::vector<std::string>& command) {
    auto signals = Signals::start();
    REQUIRE(signals);
    auto child = Child::start(command);
    REQUIRE(child);
    for (;;) {
        if (const auto how = child->ended()) {
            while (signals->next()) {
            }
            return *how;
        }
        pollfd wait{.fd = signals->descriptor(), .events = POLLIN, .revents = 0};
        REQUIRE(::poll(&wait, 1, 60'000) == 1);
        CHECK(signals->next() == SIGCHLD);
    }
}

}  // namespace

TEST_CASE("how a command ended is known") {
    CHECK(outcome({"true"}) == "exited with status 0");
    CHECK(outcome({"sh", "-c", "exit 7"}) == "exited with status 7");
}

TEST_CASE("a command has the signals of an ordinary process") {
    REQUIRE(std::signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    CHECK(outcome({"sh", "-c", "kill -TERM $$; exit 1"}) == "was killed by signal 15");
    CHECK(outcome({"sh", "-c", "kill -PIPE $$; exit 1"}) == "was killed by signal 13");
}

TEST_CASE("what cannot be run is an error") {
    const auto child = Child::start({"/nonexistent/command"});
    REQUIRE_FALSE(child);
    CHECK(child.error().code == ENOENT);
    CHECK(describe(child.error()).find("/nonexistent/command") != std::string::npos);
}
