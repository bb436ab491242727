// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/worker.hpp"

#include <poll.h>

#include <catch2/catch_test_macros.hpp>
#include <future>
#include <thread>
#include <utility>
#include <vector>

using namespace hptrace;
using namespace std::chrono_literals;

namespace {

// Waits for the next replies.
void await(Worker& worker) {
    pollfd wait{.fd = worker.descriptor(), .events = POLLIN, .revents = 0};
    static_cast<void>(::poll(&wait, 1, 10'000));
    worker.hand_over();
}

}  // namespace

TEST_CASE("jobs are done by another thread in their order, replies by the one that asked") {
    auto worker = Worker::start().value();
    std::vector<int> replies;
    std::thread::id job_thread;
    std::thread::id reply_thread;
    for (int i = 0; i < 3; ++i) {
        worker.ask([&, i]() -> Worker::Reply {
            job_thread = std::this_thread::get_id();
            return [&, i] {
                reply_thread = std::this_thread::get_id();
                replies.push_back(i);
            };
        });
    }
    worker.ask([]() -> Worker::Reply { return {}; });  // has nothing to say
    while (replies.size() < 3) {
        await(worker);
    }
    CHECK(replies == std::vector{0, 1, 2});
    CHECK(reply_thread == std::this_thread::get_id());
    CHECK(job_thread != std::this_thread::get_id());
}

TEST_CASE("asking and handing over never wait for a job") {
    std::promise<void> go;
    int replies = 0;
    auto worker = Worker::start().value();
    for (int i = 0; i < 2; ++i) {
        worker.ask([&, done = go.get_future(), i]() mutable -> Worker::Reply {
            if (i == 0) {
                done.wait();
            }
            return [&replies] { ++replies; };
        });
        if (i == 0) {
            CHECK(worker.hand_over() == 0);
            go.set_value();
            await(worker);
            go = std::promise<void>();
        }
    }
    while (replies < 2) {
        await(worker);
    }
    CHECK(worker.hand_over() == 0);
}

TEST_CASE("a worker stops after the job that is being done, and says if that takes too long") {
    std::promise<void> go;
    std::promise<void> begun;
    bool second = false;
    auto worker = Worker::start().value();
    worker.ask([&, done = go.get_future()]() mutable -> Worker::Reply {
        begun.set_value();
        done.wait();
        return {};
    });
    worker.ask([&]() -> Worker::Reply {
        second = true;
        return {};
    });
    begun.get_future().wait();
    CHECK_FALSE(worker.stop(0ms));
    go.set_value();
    CHECK(worker.stop(10s));
    CHECK_FALSE(second);
}
