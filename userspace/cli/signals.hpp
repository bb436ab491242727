// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <thread>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace hptrace {

// SIGINT, SIGTERM and SIGCHLD as something to read, instead of handlers that interrupt anything anywhere. A thread
// takes them, so that a stop is answered whatever the others do.
class Signals {
public:
    // What SIGINT and SIGTERM do.
    enum class Stop {
        at_once,     // end the process: nothing was shown yet that an orderly end would complete
        handed_over  // the first one is for next(). Whoever sends another has waited enough: it ends the process
    };

    // Blocks the signals for this thread and those it makes from now on, which is why this comes before any other
    // thread. SIGCHLD gets its default disposition: of a child whose parent ignores it, nobody would learn the end.
    static Result<Signals> start(Stop stop = Stop::handed_over);
    Signals(Signals&&) noexcept = default;
    Signals& operator=(Signals&&) = delete;
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;
    ~Signals();

    // From now on.
    void on_stop(Stop stop);
    // The exit status of a process that is ended so; 4 (nothing is proven) until it is another.
    void status_at_once(int status);

    // The next one that arrived; nothing: none.
    std::optional<int> next();
    // Readable when there is one.
    [[nodiscard]] int descriptor() const { return received_.get(); }

private:
    struct Watch {
        Fd signals;      // signalfd
        Fd end;          // eventfd: the thread is to end
        Fd handed_over;  // the writing end of received_
        std::atomic<Stop> stop = Stop::handed_over;
        std::atomic<int> status = 0;
        bool stopped = false;  // one was handed over

        void run();
        void take(int number);
    };
    Signals() = default;

    std::unique_ptr<Watch> watch_;  // the thread's
    Fd received_;                   // a pipe of bytes: numbers of signals
    std::thread thread_;
};

}  // namespace hptrace
