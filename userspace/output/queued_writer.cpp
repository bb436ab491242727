// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/queued_writer.hpp"

#include <pthread.h>

#include <algorithm>
#include <climits>
#include <csignal>
#include <system_error>

namespace hptrace {

namespace {

using namespace std::chrono_literals;

// Ignored by default and used by nobody here, so that one which comes from outside does no harm either.
constexpr int interrupt = SIGURG;
constexpr auto interrupt_interval = 5ms;

// So much of it is kept for the next burst.
constexpr std::size_t kept_capacity = 64U << 10U;

// Whole lines from the beginning of `text`, as many as a pipe takes in one piece or not at all: what is given up leaves
// no half of a line behind. Of a longer line so much, so that it is seen how far its reader has come.
std::string_view next_piece(std::string_view text) {
    const auto piece = text.substr(0, PIPE_BUF);
    const auto end = piece.rfind('\n');
    return end == std::string_view::npos ? piece : piece.substr(0, end + 1);
}

}  // namespace

Result<std::unique_ptr<QueuedWriter>> QueuedWriter::start(int fd, std::size_t limit) {
    struct sigaction action{};
    action.sa_handler = [](int) {};
    if (::sigaction(interrupt, &action, nullptr) != 0) {  // without SA_RESTART: a write ends with EINTR
        return system_error("cannot handle a signal");
    }
    std::unique_ptr<QueuedWriter> writer(new QueuedWriter(fd, limit));
    try {
        writer->thread_ = std::thread([here = writer.get()] { here->run(); });
    } catch (const std::system_error& error) {
        return system_error("cannot start a thread for the output", error.code().value());
    }
    return writer;
}

QueuedWriter::~QueuedWriter() {
    give_up();
}

void QueuedWriter::put(std::string_view bytes) {
    const std::scoped_lock lock(mutex_);
    if (give_up_ || waiting_.size() + (writing_.size() - written_) + bytes.size() > limit_) {
        ++lost_;
        return;
    }
    waiting_ += bytes;
    changed_.notify_all();
}

void QueuedWriter::run() {
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, interrupt);
    pthread_sigmask(SIG_UNBLOCK, &wanted, nullptr);
    std::unique_lock lock(mutex_);
    while (!give_up_ && ok()) {
        if (waiting_.empty()) {
            changed_.wait(lock);
            continue;
        }
        std::swap(waiting_, writing_);
        written_ = 0;
        while (!give_up_ && ok() && written_ < writing_.size()) {
            const auto piece = next_piece(std::string_view(writing_).substr(written_));
            lock.unlock();
            const auto count = write_some(piece);
            lock.lock();
            written_ += count;
        }
        if (written_ == writing_.size()) {
            writing_.clear();
            written_ = 0;
            if (writing_.capacity() > kept_capacity) {
                writing_.shrink_to_fit();
            }
        }
        changed_.notify_all();
    }
    thread_ends_ = true;
    changed_.notify_all();
}

template <class Condition>
bool QueuedWriter::wait(std::chrono::milliseconds longest, Condition condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(
        lock, longest, [&] { return !ok() || give_up_ || condition(waiting_.size() + (writing_.size() - written_)); });
}

bool QueuedWriter::wait_written(std::chrono::milliseconds longest) {
    return wait(longest, [](std::size_t left) { return left == 0; });
}

bool QueuedWriter::wait_for_room(std::chrono::milliseconds longest) {
    return wait(longest, [this](std::size_t left) { return left <= limit_ / 2; });
}

std::size_t QueuedWriter::queued() const {
    const std::scoped_lock lock(mutex_);
    return waiting_.size() + (writing_.size() - written_);
}

std::uint64_t QueuedWriter::lost() const {
    const std::scoped_lock lock(mutex_);
    return lost_;
}

void QueuedWriter::give_up() {
    if (!thread_.joinable()) {
        return;
    }
    std::unique_lock lock(mutex_);
    give_up_ = true;
    changed_.notify_all();
    // Again and again: the first one can come just before the thread begins to wait in write(2).
    while (!changed_.wait_for(lock, interrupt_interval, [this] { return thread_ends_; })) {
        pthread_kill(thread_.native_handle(), interrupt);
    }
    lock.unlock();
    thread_.join();
    if (ok()) {  // else nobody wanted it, or the failure is told
        const auto rest = std::string_view(writing_).substr(written_);
        lost_ += static_cast<std::uint64_t>(std::ranges::count(rest, '\n') + std::ranges::count(waiting_, '\n'));
    }
    waiting_.clear();
    writing_.clear();
    written_ = 0;
}

}  // namespace hptrace
