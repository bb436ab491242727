// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/signals.hpp"

#include <pthread.h>
#include <sys/signalfd.h>

#include <csignal>

namespace hptrace {

Result<Signals> Signals::start() {
    sigset_t wanted;
    sigemptyset(&wanted);
    for (const int number : {SIGINT, SIGTERM, SIGCHLD}) {
        sigaddset(&wanted, number);
    }
    if (const int error = pthread_sigmask(SIG_BLOCK, &wanted, nullptr); error != 0) {
        return system_error("cannot block signals", error);
    }
    Fd fd(::signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd) {
        return system_error("cannot receive signals");
    }
    return Signals(std::move(fd));
}

std::optional<int> Signals::next() {
    signalfd_siginfo info{};
    if (::read(fd_.get(), &info, sizeof(info)) != sizeof(info)) {
        return std::nullopt;
    }
    return static_cast<int>(info.ssi_signo);
}

}  // namespace hptrace
