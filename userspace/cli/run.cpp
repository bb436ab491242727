// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/run.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <sstream>

namespace hptrace {

namespace {

template <class... Functions>
struct Overloaded : Functions... {
    using Functions::operator()...;
};
template <class... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

bool is_closed(int fd) {
    return ::fcntl(fd, F_GETFD) < 0 && errno == EBADF;
}

// A closed stdin or stderr must not become the number of a socket or a BPF map.
void fill_closed(int fd) {
    if (is_closed(fd)) {
        static_cast<void>(::open("/dev/null", fd == STDIN_FILENO ? O_RDONLY : O_WRONLY));
    }
}

// Whatever hptrace was started with: some supervisors block signals, or ignore the ends of children.
void ordinary_signals() {
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, nullptr);
    static_cast<void>(std::signal(SIGCHLD, SIG_DFL));
    static_cast<void>(std::signal(SIGPIPE, SIG_IGN));  // a closed pipe is an error of the write
}

int print(const std::string& text) {
    Writer writer(STDOUT_FILENO);
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        writer.line(line);
    }
    return finish(writer, exit_clean);
}

}  // namespace

void note(std::string_view text) {
    Writer(STDERR_FILENO).line(fmt::format("hptrace: {}", text));
}

int fail(const Error& error) {
    note(describe(error));
    return exit_failure;
}

int finish(const Writer& writer, int status) {
    const auto& error = writer.error();
    return error ? fail(*error) : status;
}

int run(std::vector<std::string> arguments) {
    // In this order: each open takes the lowest free number.
    fill_closed(STDIN_FILENO);
    const bool no_stdout = is_closed(STDOUT_FILENO);
    fill_closed(STDOUT_FILENO);
    fill_closed(STDERR_FILENO);
    if (no_stdout) {
        return fail({"cannot write the output: stdout is closed", 0, {}});
    }
    ordinary_signals();

    const auto command = parse_command_line(std::move(arguments));
    if (!command) {
        note(describe(command.error()));
        return exit_usage;
    }
    return std::visit(Overloaded{[](const TraceOptions& options) { return run_trace(options); },
                                 [](const AuditOptions& options) { return run_audit(options); },
                                 [](const DoctorOptions& options) { return run_doctor(options); },
                                 [](const PrintText& text) { return print(text.text); }},
                      *command);
}

}  // namespace hptrace
