// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/signals.hpp"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <csignal>
#include <functional>

#include "base/fd.hpp"
#include "unread_pipe.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

// The exit status of a process that does this; 128 and the signal if one killed it.
int status_of(const std::function<int()>& what) {
    const auto pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        ::alarm(60);
        ::_exit(what());
    }
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int wait_for(Signals& signals) {
    pollfd wait{.fd = signals.descriptor(), .events = POLLIN, .revents = 0};
    static_cast<void>(::poll(&wait, 1, -1));
    return signals.next().value_or(0);
}

// Waits without looking at any signal.
int sleep_for_ever() {
    for (;;) {
        ::pause();
    }
}

}  // namespace

TEST_CASE("signals are there to be read, also those that were ignored or blocked before") {
    for (const int number : {SIGINT, SIGTERM}) {
        CHECK(status_of([number] {
                  static_cast<void>(std::signal(number, SIG_IGN));  // `hptrace &` of a script
                  auto signals = Signals::start();
                  static_cast<void>(::kill(::getpid(), number));
                  return signals && wait_for(*signals) == number ? 7 : 1;
              }) == 7);
    }
}

TEST_CASE("the end of a child is told, though SIGCHLD was inherited as ignored") {
    CHECK(status_of([] {
              static_cast<void>(std::signal(SIGCHLD, SIG_IGN));
              auto signals = Signals::start();
              const auto child = ::fork();
              if (child == 0) {
                  ::_exit(5);
              }
              if (!signals || wait_for(*signals) != SIGCHLD) {
                  return 1;
              }
              int status = 0;
              return ::waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5 ? 7 : 2;
          }) == 7);
}

TEST_CASE("a stop ends what has not begun yet, whatever it is doing") {
    CHECK(status_of([] {
              const auto signals = Signals::start(Signals::Stop::at_once);
              static_cast<void>(::kill(::getpid(), SIGTERM));
              return sleep_for_ever();
          }) == 4);
    CHECK(status_of([] {  // stderr that nobody reads is no hindrance
              const UnreadPipe full;
              full.fill();
              static_cast<void>(::dup2(full.writing(), STDERR_FILENO));
              const auto signals = Signals::start(Signals::Stop::at_once);
              static_cast<void>(::kill(::getpid(), SIGINT));
              return sleep_for_ever();
          }) == 4);
}

TEST_CASE("a second stop ends it, with what was found by then") {
    CHECK(status_of([] {
              auto signals = Signals::start(Signals::Stop::at_once);
              signals->on_stop(Signals::Stop::handed_over);
              signals->status_at_once(3);
              static_cast<void>(::kill(::getpid(), SIGINT));
              if (wait_for(*signals) != SIGINT) {
                  return 1;
              }
              static_cast<void>(::kill(::getpid(), SIGINT));
              return sleep_for_ever();
          }) == 3);
}
