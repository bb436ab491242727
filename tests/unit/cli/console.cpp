// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/console.hpp"

#include <sys/mman.h>

#include <catch2/catch_test_macros.hpp>

#include "unread_pipe.hpp"

using namespace hptrace;
using namespace hptrace::test;
using namespace std::chrono_literals;

namespace {

constexpr auto never_stopped = [] { return false; };
constexpr auto is_stopped = [] { return true; };

std::string text_of(const Fd& file) {
    std::string text(1U << 16U, '\0');
    const auto count = ::pread(file.get(), text.data(), text.size(), 0);
    text.resize(static_cast<std::size_t>(count < 0 ? 0 : count));
    return text;
}

Fd new_file() {
    return Fd(::memfd_create("output", MFD_CLOEXEC));
}

}  // namespace

TEST_CASE("results and notes come out, in their order where they share a file") {
    const auto file = new_file();
    auto console = Console::start(file.get(), file.get());
    REQUIRE(console);
    console->out().line("one");
    console->note("two");
    console->out().line("three");
    console->settle(never_stopped);
    CHECK(text_of(file) == "one\nhptrace: two\nthree\n");
}

TEST_CASE("notes do not go to stdout") {
    const auto out = new_file();
    const auto notes = new_file();
    auto console = Console::start(out.get(), notes.get());
    REQUIRE(console);
    console->out().line("result");
    console->note("note\x1b[2J");
    console->settle(never_stopped);
    CHECK(text_of(out) == "result\n");
    CHECK(text_of(notes) == "hptrace: note\\x1b[2J\n");
}

TEST_CASE("a full stderr holds nothing up, and neither does a full stdout; a stop gives up on both") {
    const UnreadPipe out;
    const UnreadPipe notes;
    out.fill();
    notes.fill();
    auto console = Console::start(out.writing(), notes.writing());
    REQUIRE(console);
    for (int number = 0; number < 1'000; ++number) {
        console->out().line("result");
        console->note("note");
    }
    int looks = 0;
    console->settle([&looks] { return ++looks > 3; });  // it is looked at the signals while it waits
    CHECK(console->out().lost() == 1'000);
}

TEST_CASE("who reads is waited for, also by a stop") {
    UnreadPipe out;
    const auto notes = new_file();
    auto console = Console::start(out.writing(), notes.get());
    REQUIRE(console);
    constexpr std::size_t bytes = 1'000'000;
    console->out().line(std::string(bytes - 1, 'x'));
    std::size_t count = 0;
    console->settle([&] {  // one pipeful each time it looks
        count += out.read_available().size();
        return true;
    });
    while (count < bytes) {
        count += out.read_some().size();
    }
    CHECK(console->out().lost() == 0);
}
