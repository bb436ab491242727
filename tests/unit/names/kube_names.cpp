// SPDX-License-Identifier: GPL-2.0-or-later
#include "names/kube_names.hpp"

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <csignal>
#include <stdexcept>

#include "names/eventually.hpp"
#include "state/netns.hpp"

using namespace hptrace;
using namespace hptrace::test;
using namespace std::chrono_literals;

namespace {

constexpr KubeNames::Timing often{.interval = 5ms, .first_backoff = 5ms, .longest_backoff = 10ms, .longest_use = 1h};
constexpr KubeNames::Timing once{.interval = 1h, .first_backoff = 1h, .longest_backoff = 1h, .longest_use = 1h};

std::unique_ptr<KubeNames> started(KubeLister list, KubeNames::Timing timing) {
    auto names = KubeNames::start(std::move(list), timing);
    REQUIRE(names);
    return *std::move(names);
}

KubeListing good() {
    return {.names = std::make_shared<ClusterNames>(), .failures = {}};
}

}  // namespace

TEST_CASE("there are no names before the first list, and nothing waits for it") {
    std::atomic<bool> may_end = false;
    const auto names = started(
        [&](const std::stop_token& stop) {
            static_cast<void>(eventually([&] { return may_end || stop.stop_requested(); }));
            return good();
        },
        once);
    CHECK_FALSE(names->names());
    CHECK_FALSE(names->news());
    CHECK_FALSE(names->wait_for_first_list(1ms));
    may_end = true;
    CHECK(names->wait_for_first_list(1min));
    CHECK(names->names());
    CHECK_FALSE(names->news());
}

TEST_CASE("a failure is told once, names stay, and that they are back is told") {
    std::atomic<int> phase = 0;
    std::atomic<int> lists = 0;
    const auto names = started(
        [&](const std::stop_token&) {
            ++lists;
            switch (phase) {
                case 0:
                    return KubeListing{.names = nullptr, .failures = {"no answer"}};
                case 1:
                    return good();
                case 2:
                    return KubeListing{.names = nullptr, .failures = {"no answer"}};
                default:
                    return KubeListing{.names = std::make_shared<ClusterNames>(), .failures = {"no pods", "no slices"}};
            }
        },
        often);
    CHECK(next_news(*names) == "names from the Kubernetes API are missing: no answer");
    const auto before = lists.load();
    CHECK(eventually([&] { return lists > before + 3; }));
    CHECK_FALSE(names->news());
    CHECK_FALSE(names->names());
    phase = 1;
    CHECK(next_news(*names) == "names from the Kubernetes API are there again");
    CHECK(names->names());
    phase = 2;
    CHECK(next_news(*names) == "names from the Kubernetes API are not renewed: no answer");
    CHECK(names->names());
    phase = 3;
    CHECK(next_news(*names) == "some names from the Kubernetes API are missing: no pods; no slices");
    CHECK(names->names());
}

TEST_CASE("names that are too old are no longer given") {
    std::atomic<bool> fails = false;
    auto timing = often;
    timing.longest_use = 0ms;
    const auto names = started(
        [&](const std::stop_token&) {
            return fails ? KubeListing{.names = nullptr, .failures = {"no answer"}} : good();
        },
        timing);
    CHECK(eventually([&] { return names->names() != nullptr; }));
    fails = true;
    CHECK(next_news(*names) == "names from the Kubernetes API are missing: no answer");
    CHECK_FALSE(names->names());
}

TEST_CASE("an exception is a failure like others") {
    const auto names =
        started([](const std::stop_token&) -> KubeListing { throw std::runtime_error("no memory"); }, once);
    CHECK(next_news(*names) == "names from the Kubernetes API are missing: no memory");
}

TEST_CASE("the thread takes no signals and stays in its network namespace") {
    sigset_t blocked;
    sigemptyset(&blocked);
    std::uint32_t inode = 0;
    const auto names = started(
        [&](const std::stop_token&) {
            pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
            inode = current_netns_inode().value_or(0);
            return good();
        },
        once);
    REQUIRE(names->wait_for_first_list(1min));
    for (const int number : {SIGINT, SIGTERM, SIGCHLD, SIGPIPE}) {
        CHECK(sigismember(&blocked, number) == 1);
    }
    CHECK(inode == current_netns_inode());
    sigset_t here;
    pthread_sigmask(SIG_SETMASK, nullptr, &here);
    CHECK(sigismember(&here, SIGTERM) == 0);
}
