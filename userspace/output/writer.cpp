// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/writer.hpp"

#include <poll.h>
#include <unistd.h>

namespace hptrace {

void Writer::line(const Line& line) {
    if (ok()) {
        put(line.bytes() + '\n');
    }
}

void Writer::check_reader() {
    pollfd state{.fd = fd_, .events = 0, .revents = 0};
    if (::poll(&state, 1, 0) == 1 && (state.revents & POLLERR) != 0) {
        int none = 0;
        failure_.compare_exchange_strong(none, EPIPE);
    }
}

std::optional<Error> Writer::error() const {
    if (ok() || closed()) {
        return std::nullopt;
    }
    return Error{"cannot write the output", failure_, {}};
}

void Writer::put(std::string_view bytes) {
    while (ok() && !bytes.empty()) {
        bytes.remove_prefix(write_some(bytes));
    }
}

std::size_t Writer::write_some(std::string_view bytes) {
    const auto written = ::write(fd_, bytes.data(), bytes.size());
    if (written >= 0) {
        return static_cast<std::size_t>(written);
    }
    if (errno == EAGAIN) {  // somebody made it non-blocking: wait as if it were not
        pollfd wait{.fd = fd_, .events = POLLOUT, .revents = 0};
        static_cast<void>(::poll(&wait, 1, -1));
    } else if (errno != EINTR) {
        int none = 0;
        failure_.compare_exchange_strong(none, errno);
    }
    return 0;
}

}  // namespace hptrace
