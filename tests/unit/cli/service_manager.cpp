// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/service_manager.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <string>

#include "datagram_receiver.hpp"
#include "temporary_folder.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

// A service manager that started this process, or one with that process id, with a watchdog of a minute.
struct Started {
    TemporaryFolder folder;
    std::string path = (folder.path() / "notify").string();
    DatagramReceiver receiver{path};

    explicit Started(int pid) {
        ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
        ::setenv("WATCHDOG_USEC", "60000000", 1);
        ::setenv("WATCHDOG_PID", fmt::format("{}", pid).c_str(), 1);
    }
};

}  // namespace

TEST_CASE("the service manager learns of start, life and end") {
    const Started started(::getpid());
    auto manager = ServiceManager::from_environment();
    CHECK(std::getenv("NOTIFY_SOCKET") == nullptr);  // a command that is started is not the service
    CHECK(std::getenv("WATCHDOG_USEC") == nullptr);
    manager.ready("tracing (fexit)");
    CHECK(started.receiver.next() == "READY=1\nSTATUS=tracing (fexit)");
    manager.turn();
    CHECK(started.receiver.next() == "WATCHDOG=1");
    manager.turn();
    CHECK_FALSE(started.receiver.next());  // half the interval is not over
    manager.stopping();
    CHECK(started.receiver.next() == "STOPPING=1");
}

TEST_CASE("a watchdog of another process is not fed") {
    const Started started(1);
    ServiceManager::from_environment().turn();
    CHECK_FALSE(started.receiver.next());
}

TEST_CASE("without a service manager nothing is said") {
    auto manager = ServiceManager::from_environment();
    manager.ready("tracing");
    manager.turn();
    manager.stopping();
}
