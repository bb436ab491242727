// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/service_manager.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

#include "base/number.hpp"
#include "base/unix_datagram.hpp"

namespace hptrace {

namespace {

std::string take(const char* name) {
    const char* const value = std::getenv(name);
    std::string text = value != nullptr ? value : "";
    ::unsetenv(name);
    return text;
}

}  // namespace

ServiceManager ServiceManager::from_environment() {
    ServiceManager manager;
    manager.path_ = take("NOTIFY_SOCKET");
    const auto interval = parse_number<std::int64_t>(take("WATCHDOG_USEC"));
    const auto pid = take("WATCHDOG_PID");
    if (manager.path_.empty()) {
        return manager;
    }
    manager.socket_ = unix_datagram_socket();
    if (interval && (pid.empty() || pid == fmt::format("{}", ::getpid()))) {
        manager.interval_ = std::chrono::microseconds(*interval);
    }
    return manager;
}

void ServiceManager::ready(std::string_view status) {
    say(fmt::format("READY=1\nSTATUS={}", status));
}

void ServiceManager::stopping() {
    say("STOPPING=1");
}

void ServiceManager::turn() {
    const auto now = std::chrono::steady_clock::now();
    if (interval_.count() > 0 && now - said_ >= interval_ / 2) {
        said_ = now;
        say("WATCHDOG=1");
    }
}

void ServiceManager::say(std::string_view text) {
    if (!path_.empty()) {
        // Whoever does not listen learns nothing: there is nobody else to tell.
        static_cast<void>(send_unix_datagram(socket_.get(), path_, text));
    }
}

}  // namespace hptrace
