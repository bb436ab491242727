// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/queued_writer.hpp"

#include <fcntl.h>

#include <catch2/catch_test_macros.hpp>
#include <csignal>

#include "output/samples.hpp"
#include "unread_pipe.hpp"

using namespace hptrace;
using namespace hptrace::test;
using namespace std::chrono_literals;

namespace {

constexpr auto long_enough = 60s;  // for what is to happen at once

}  // namespace

TEST_CASE("queued lines are written by themselves, in their order") {
    const Paper paper;
    auto writer = QueuedWriter::start(paper.fd());
    REQUIRE(writer);
    std::string wanted;
    for (int number = 0; number < 10'000; ++number) {
        const auto line = std::to_string(number) + std::string(static_cast<std::size_t>(number % 7), 'x');
        (*writer)->line(line);
        wanted += line + '\n';
    }
    REQUIRE((*writer)->wait_written(long_enough));
    CHECK(paper.text() == wanted);
    CHECK((*writer)->queued() == 0);
    CHECK((*writer)->lost() == 0);
    CHECK((*writer)->ok());
}

TEST_CASE("a pipe that nobody reads holds nobody up, and what it does not take is counted") {
    UnreadPipe pipe;
    const auto flags = ::fcntl(pipe.writing(), F_GETFL);
    auto writer = QueuedWriter::start(pipe.writing(), 64U << 10U);
    REQUIRE(writer);
    std::uint64_t lines = 0;
    const std::string text(99, 'x');
    while (!pipe.full()) {
        (*writer)->line(text);
        ++lines;
    }
    for (int number = 0; number < 1'000; ++number) {  // more than the queue holds
        (*writer)->line(text);
        ++lines;
    }
    CHECK((*writer)->lost() > 0);
    CHECK((*writer)->queued() > 0);
    CHECK_FALSE((*writer)->wait_for_room(0ms));
    CHECK_FALSE((*writer)->wait_written(0ms));
    (*writer)->give_up();
    CHECK((*writer)->queued() == 0);
    const auto lost = (*writer)->lost();
    (*writer)->line(text);
    CHECK((*writer)->lost() == lost + 1);
    // Its open file description belongs to whoever made it as well.
    CHECK(::fcntl(pipe.writing(), F_GETFL) == flags);
    writer->reset();
    // Whole lines, and each is either there or lost.
    const auto read = pipe.read_all();
    CHECK(read.size() == (lines - lost) * (text.size() + 1));
    CHECK(read.ends_with("x\n"));
}

TEST_CASE("a reader that comes late gets everything that is queued") {
    UnreadPipe pipe;
    auto writer = QueuedWriter::start(pipe.writing(), 1U << 20U);
    REQUIRE(writer);
    const std::string text(9'999, 'x');  // longer than a pipe takes in one piece
    for (int number = 0; number < 50; ++number) {
        (*writer)->line(text);
    }
    CHECK((*writer)->lost() == 0);
    std::size_t count = 0;
    while (count < 50 * (text.size() + 1)) {
        count += pipe.read_some().size();
    }
    CHECK(count == 50 * (text.size() + 1));
    CHECK((*writer)->wait_written(long_enough));
}

TEST_CASE("a pipe that somebody made non-blocking loses nothing") {
    UnreadPipe pipe;
    REQUIRE(::fcntl(pipe.writing(), F_SETFL, O_NONBLOCK) == 0);
    auto writer = QueuedWriter::start(pipe.writing());
    REQUIRE(writer);
    const std::string text(999, 'x');
    for (int number = 0; number < 500; ++number) {
        (*writer)->line(text);
    }
    for (std::size_t count = 0; count < 500'000;) {
        count += pipe.read_some().size();
    }
    CHECK((*writer)->wait_written(long_enough));
    CHECK((*writer)->ok());
}

TEST_CASE("what goes wrong while queued lines are written is known") {
    REQUIRE(std::signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    SECTION("the reader has gone: no error, and nothing is lost") {
        UnreadPipe pipe;
        auto writer = QueuedWriter::start(pipe.writing());
        REQUIRE(writer);
        (*writer)->line(std::string(100'000, 'x'));  // more than a pipe takes: it waits in the middle
        pipe.close_reader();
        CHECK((*writer)->wait_written(long_enough));
        CHECK((*writer)->closed());
        CHECK_FALSE((*writer)->error());
        CHECK((*writer)->lost() == 0);
    }
    SECTION("the reader has gone, and there is nothing to write") {
        UnreadPipe pipe;
        auto writer = QueuedWriter::start(pipe.writing());
        REQUIRE(writer);
        pipe.close_reader();
        (*writer)->check_reader();
        CHECK((*writer)->closed());
    }
    SECTION("the disk is full") {
        const Fd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
        auto writer = QueuedWriter::start(full.get());
        REQUIRE(writer);
        (*writer)->line("too much");
        CHECK((*writer)->wait_written(long_enough));
        CHECK_FALSE((*writer)->closed());
        REQUIRE((*writer)->error());
        CHECK((*writer)->error()->code == ENOSPC);
    }
}
