// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/error.hpp"
#include "output/writer.hpp"

namespace hptrace {

// A Writer whose line() never waits: a thread of its own writes what is queued. A line that finds the queue full,
// because nobody reads, is dropped and counted.
class QueuedWriter final : public Writer {
public:
    static constexpr std::size_t default_limit = 8U << 20U;  // bytes that are queued at most

    // The thread takes the signals that its maker takes, and SIGURG, which interrupts it and for which the process gets
    // a handler that does nothing. Error: there is no thread to be had.
    static Result<std::unique_ptr<QueuedWriter>> start(int fd, std::size_t limit = default_limit);
    QueuedWriter(const QueuedWriter&) = delete;
    QueuedWriter(QueuedWriter&&) = delete;
    QueuedWriter& operator=(const QueuedWriter&) = delete;
    QueuedWriter& operator=(QueuedWriter&&) = delete;
    ~QueuedWriter() override;  // as give_up()

    // Waits until all is written, or writing has failed. False: neither, within this time.
    bool wait_written(std::chrono::milliseconds longest);
    // Waits until half of the queue is free at least, or writing has failed. False: neither, within this time.
    bool wait_for_room(std::chrono::milliseconds longest);

    // Bytes that are not written yet.
    [[nodiscard]] std::size_t queued() const;
    // Lines that were dropped.
    [[nodiscard]] std::uint64_t lost() const;

    // Ends the thread, also while it waits for a reader. What is queued is dropped, as is every line after it.
    void give_up();

private:
    QueuedWriter(int fd, std::size_t limit) : Writer(fd), limit_(limit) {}
    void put(std::string_view bytes) override;
    void run();
    void write_all();
    template <class Condition>
    bool wait(std::chrono::milliseconds longest, Condition condition);

    std::size_t limit_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::string waiting_;       // whole lines
    std::string writing_;       // whole lines; changed by the thread alone
    std::size_t written_ = 0;   // bytes of writing_
    std::uint64_t lost_ = 0;    // lines
    bool give_up_ = false;      // told to the thread
    bool thread_ends_ = false;  // it touches nothing any more
    std::thread thread_;        // last: it uses all of the above
};

}  // namespace hptrace
