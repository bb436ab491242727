// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/service_manager.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <cstdlib>

#include "datagram_receiver.hpp"
#include "temporary_folder.hpp"

using namespace hptrace;
using namespace hptrace::test;

TEST_CASE("the service manager learns of start, life and end") {
    const TemporaryFolder folder;
    const auto path = (folder.path() / "notify").string();
    const DatagramReceiver receiver(path);
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
    ::setenv("WATCHDOG_USEC", "60000000", 1);
    ::setenv("WATCHDOG_PID", fmt::format("{}", ::getpid()).c_str(), 1);

    auto manager = ServiceManager::from_environment();
    CHECK(std::getenv("NOTIFY_SOCKET") == nullptr);  // a command that is started is not the service
    CHECK(std::getenv("WATCHDOG_USEC") == nullptr);
    manager.ready("tracing (fexit)");
    CHECK(receiver.next() == "READY=1\nSTATUS=tracing (fexit)");
    manager.turn();
    CHECK(receiver.next() == "WATCHDOG=1");
    manager.turn();
    CHECK_FALSE(receiver.next());  // half the interval is not over
    manager.stopping();
    CHECK(receiver.next() == "STOPPING=1");
}

TEST_CASE("a watchdog of another process is not fed") {
    const TemporaryFolder folder;
    const auto path = (folder.path() / "notify").string();
    const DatagramReceiver receiver(path);
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
    ::setenv("WATCHDOG_USEC", "60000000", 1);
    ::setenv("WATCHDOG_PID", "1", 1);
    ServiceManager::from_environment().turn();
    CHECK_FALSE(receiver.next());
}

TEST_CASE("without a service manager nothing is said") {
    auto manager = ServiceManager::from_environment();
    manager.ready("tracing");
    manager.turn();
    manager.stopping();
}
