// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <string>

#include "base/fd.hpp"

namespace hptrace::test {

// A pipe that nobody reads until the test does.
class UnreadPipe {
public:
    UnreadPipe() {
        std::array<int, 2> ends{};
        REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
        reading_.reset(ends[0]);
        writing_.reset(ends[1]);
    }

    [[nodiscard]] int writing() const { return writing_.get(); }
    // It is full: whoever writes more waits.
    [[nodiscard]] bool full() const {
        pollfd state{.fd = writing_.get(), .events = POLLOUT, .revents = 0};
        return ::poll(&state, 1, 0) == 0;
    }
    void close_reader() { reading_.reset(); }

    // Waits for the next bytes.
    [[nodiscard]] std::string read_some() const {
        std::string part(64U << 10U, '\0');
        const auto count = ::read(reading_.get(), part.data(), part.size());
        REQUIRE(count >= 0);
        part.resize(static_cast<std::size_t>(count));
        return part;
    }

    // What is there now, which may be nothing.
    [[nodiscard]] std::string read_available() const {
        pollfd state{.fd = reading_.get(), .events = POLLIN, .revents = 0};
        return ::poll(&state, 1, 0) == 1 ? read_some() : std::string();
    }

    // To its end: what is in it now.
    [[nodiscard]] std::string read_all() {
        writing_.reset();
        std::string all;
        for (auto part = read_some(); !part.empty(); part = read_some()) {
            all += part;
        }
        return all;
    }

    // Until it takes no more.
    void fill() const {
        const Fd own(
            ::open(("/proc/self/fd/" + std::to_string(writing_.get())).c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
        REQUIRE(own);
        const std::string part(4096, 'x');
        while (::write(own.get(), part.data(), part.size()) > 0) {
        }
    }

private:
    Fd reading_;
    Fd writing_;
};

}  // namespace hptrace::test
