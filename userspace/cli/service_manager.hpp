// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/fd.hpp"

namespace hptrace {

// The service manager's side of Type=notify and WatchdogSec= (sd_notify(3)); does nothing if hptrace was not started
// so. A socket and two variables: no reason to link libsystemd.
class ServiceManager {
public:
    // Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment: they are not for a command it starts.
    static ServiceManager from_environment();

    void ready(std::string_view status);
    void stopping();
    // Still alive; to be called at every turn. Tells it twice per interval.
    void turn();

private:
    void say(std::string_view text);

    std::string path_;  // empty: there is none
    Fd socket_;
    std::chrono::microseconds interval_{0};  // of the watchdog; 0: none
    std::chrono::steady_clock::time_point said_;
};

}  // namespace hptrace
