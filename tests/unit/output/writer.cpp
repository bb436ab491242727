// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/writer.hpp"

#include <fcntl.h>

#include <catch2/catch_test_macros.hpp>
#include <csignal>

#include "output/escape.hpp"
#include "output/samples.hpp"

using namespace hptrace;
using namespace hptrace::test;

TEST_CASE("every line is there at once") {
    const Paper paper;
    Writer writer(paper.fd());
    writer.line("one");
    CHECK(paper.text() == "one\n");
    writer.line("");
    CHECK(paper.text() == "one\n\n");
    CHECK(writer.ok());
}

TEST_CASE("a reader that went away is no error") {
    REQUIRE(std::signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    Fd reader(ends[0]);
    const Fd writing(ends[1]);
    Writer writer(writing.get());
    writer.check_reader();
    CHECK(writer.ok());
    reader.reset();
    SECTION("noticed when writing") {
        writer.line("nobody reads this");
    }
    SECTION("noticed before") {
        writer.check_reader();
    }
    CHECK_FALSE(writer.ok());
    CHECK(writer.closed());
    CHECK_FALSE(writer.error());
}

TEST_CASE("a full disk is an error, and ends it") {
    const Fd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
    REQUIRE(full);
    Writer writer(full.get());
    writer.line("too much");
    CHECK_FALSE(writer.ok());
    CHECK_FALSE(writer.closed());
    REQUIRE(writer.error());
    CHECK(writer.error()->code == ENOSPC);
    writer.line("more");  // must not try again
    CHECK(writer.error()->code == ENOSPC);
}

TEST_CASE("what comes from outside cannot command a terminal") {
    CHECK(escape("plain, with = and \"quotes\"") == "plain, with = and \"quotes\"");
    CHECK(escape("a\x1b[2Jb\n\t\x7f") == "a\\x1b[2Jb\\x0a\\x09\\x7f");
    CHECK(escape("\xc2\x9b") == "\\xc2\\x9b");  // C1 control characters in UTF-8
    CHECK(escape(std::string_view("\0", 1)) == "\\x00");
}
