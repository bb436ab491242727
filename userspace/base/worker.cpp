// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/worker.hpp"

#include <sys/eventfd.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "base/fd.hpp"

namespace hptrace {

class Worker::Impl {
public:
    explicit Impl(Fd news) : news_(std::move(news)) {}
    Impl(const Impl&) = delete;
    Impl(Impl&&) = delete;
    Impl& operator=(const Impl&) = delete;
    Impl& operator=(Impl&&) = delete;
    ~Impl() {
        stop();
        if (thread_.joinable()) {
            thread_.join();
        }
    }

    // Apart from the constructor: the thread uses all of this object.
    void begin() {
        thread_ = std::thread([this] { run(); });
    }

    void ask(Job job) {
        const std::scoped_lock lock(mutex_);
        jobs_.push_back(std::move(job));
        changed_.notify_all();
    }

    std::size_t hand_over() {
        std::deque<Reply> replies;
        {
            const std::scoped_lock lock(mutex_);
            replies.swap(replies_);
            eventfd_t ignored = 0;
            static_cast<void>(::eventfd_read(news_.get(), &ignored));
        }
        for (auto& reply : replies) {
            if (reply) {
                reply();
            }
        }
        return replies.size();
    }

    [[nodiscard]] int descriptor() const { return news_.get(); }

    bool stop(std::chrono::milliseconds patience) {
        stop();
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, patience, [this] { return ended_; });
    }

private:
    void stop() {
        const std::scoped_lock lock(mutex_);
        stopped_ = true;
        changed_.notify_all();
    }

    void run() {
        std::unique_lock lock(mutex_);
        for (;;) {
            changed_.wait(lock, [this] { return stopped_ || !jobs_.empty(); });
            if (stopped_) {
                break;
            }
            auto job = std::move(jobs_.front());
            jobs_.pop_front();
            lock.unlock();
            auto reply = job();
            job = nullptr;  // and what it holds, before anybody hears that it is done
            lock.lock();
            replies_.push_back(std::move(reply));
            static_cast<void>(::eventfd_write(news_.get(), 1));
        }
        ended_ = true;
        changed_.notify_all();
    }

    Fd news_;
    std::mutex mutex_;  // of all below
    std::condition_variable changed_;
    std::deque<Job> jobs_;
    std::deque<Reply> replies_;
    bool stopped_ = false;
    bool ended_ = false;
    std::thread thread_;  // the last one: it uses the others
};

Result<Worker> Worker::start() {
    Fd news(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!news) {
        return system_error("cannot make an eventfd");
    }
    auto impl = std::make_unique<Impl>(std::move(news));
    try {
        impl->begin();
    } catch (const std::system_error& error) {
        return system_error("cannot start a thread", error.code().value());
    }
    return Worker(std::move(impl));
}

Worker::Worker(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Worker::Worker(Worker&&) noexcept = default;
Worker& Worker::operator=(Worker&&) noexcept = default;
Worker::~Worker() = default;

void Worker::ask(Job job) {
    impl_->ask(std::move(job));
}
std::size_t Worker::hand_over() {
    return impl_->hand_over();
}
int Worker::descriptor() const {
    return impl_->descriptor();
}
bool Worker::stop(std::chrono::milliseconds patience) {
    return impl_->stop(patience);
}

}  // namespace hptrace
