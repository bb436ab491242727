// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/signals.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <string_view>
#include <system_error>
#include <utility>

namespace hptrace {

namespace {

constexpr int unproven = 4;  // exit status: nothing was found, but "clean" is not proven

// Says so if stderr takes it at once, and ends the process. What the kernel has for it (probes, sockets) goes with it.
[[noreturn]] void end_process(int status, std::string_view why) {
    pollfd room{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    if (::poll(&room, 1, 0) == 1 && (room.revents & POLLOUT) != 0) {
        static_cast<void>(!::write(STDERR_FILENO, why.data(), why.size()));
    }
    ::_exit(status);
}

}  // namespace

Result<Signals> Signals::start(Stop stop) {
    sigset_t wanted;
    sigemptyset(&wanted);
    for (const int number : {SIGINT, SIGTERM, SIGCHLD}) {
        sigaddset(&wanted, number);
    }
    if (const int error = pthread_sigmask(SIG_BLOCK, &wanted, nullptr); error != 0) {
        return system_error("cannot block signals", error);
    }
    if (std::signal(SIGCHLD, SIG_DFL) == SIG_ERR) {
        return system_error("cannot receive signals");
    }
    std::array<int, 2> ends{-1, -1};
    if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
        return system_error("cannot receive signals");
    }
    Signals signals;
    signals.received_.reset(ends[0]);
    signals.watch_ = std::make_unique<Watch>();
    auto& watch = *signals.watch_;
    watch.handed_over.reset(ends[1]);
    watch.signals.reset(::signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
    watch.end.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!watch.signals || !watch.end) {
        return system_error("cannot receive signals");
    }
    watch.stop = stop;
    watch.status = unproven;
    try {
        signals.thread_ = std::thread([&watch] { watch.run(); });
    } catch (const std::system_error& error) {
        return system_error("cannot start a thread for signals", error.code().value());
    }
    return signals;
}

Signals::~Signals() {
    if (thread_.joinable()) {
        const std::uint64_t one = 1;
        static_cast<void>(!::write(watch_->end.get(), &one, sizeof(one)));  // an empty eventfd takes it
        thread_.join();
    }
}

void Signals::on_stop(Stop stop) {
    watch_->stop = stop;
}

void Signals::status_at_once(int status) {
    watch_->status = status;
}

std::optional<int> Signals::next() {
    unsigned char number = 0;
    if (::read(received_.get(), &number, sizeof(number)) != sizeof(number)) {
        return std::nullopt;
    }
    return number;
}

void Signals::Watch::run() {
    for (;;) {
        std::array<pollfd, 2> wait{
            {{.fd = signals.get(), .events = POLLIN, .revents = 0}, {.fd = end.get(), .events = POLLIN, .revents = 0}}};
        static_cast<void>(::poll(wait.data(), wait.size(), -1));
        if (wait[1].revents != 0) {
            return;  // what is pending stays so
        }
        signalfd_siginfo info{};
        while (::read(signals.get(), &info, sizeof(info)) == sizeof(info)) {
            take(static_cast<int>(info.ssi_signo));
        }
    }
}

void Signals::Watch::take(int number) {
    if (number != SIGCHLD) {
        if (stop == Stop::at_once) {
            end_process(status, "hptrace: stopped before anything was traced or judged\n");
        }
        if (std::exchange(stopped, true)) {
            end_process(status, "hptrace: stopped again: what was left to say is missing\n");
        }
    }
    const auto byte = static_cast<unsigned char>(number);
    // Full means that more than its reader can miss is in it already.
    static_cast<void>(!::write(handed_over.get(), &byte, sizeof(byte)));
}

}  // namespace hptrace
