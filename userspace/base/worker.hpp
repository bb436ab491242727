// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>

#include "base/error.hpp"

namespace hptrace {

// A thread that does what another one, its owner, has no time for: one job after the other, in the order they are
// given. What a job found comes back as a reply, which the owner runs when it likes; so only what a job itself uses is
// ever used by two threads. Jobs must not throw.
class Worker {
public:
    using Reply = std::move_only_function<void()>;  // may be empty
    using Job = std::move_only_function<Reply()>;

    // The thread has the caller's signal mask and network namespace. Error: the system gives no thread or descriptor.
    static Result<Worker> start();

    Worker(Worker&&) noexcept;
    Worker& operator=(Worker&&) noexcept;
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;
    ~Worker();  // stops, however long the job that is being done still takes

    void ask(Job job);
    // Runs the replies that have come; never waits. Returns how many.
    std::size_t hand_over();
    // Readable while there are replies.
    [[nodiscard]] int descriptor() const;
    // Begins no other job, and no reply is kept. False: the one that is being done takes longer than `patience`.
    [[nodiscard]] bool stop(std::chrono::milliseconds patience);

private:
    class Impl;
    explicit Worker(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace hptrace
