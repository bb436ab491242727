// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/writer.hpp"

#include <poll.h>
#include <unistd.h>

#include <string>

namespace hptrace {

void Writer::line(std::string_view text) {
    std::string buffer(text);
    buffer += '\n';
    std::string_view rest = buffer;
    while (ok() && !rest.empty()) {
        const auto written = ::write(fd_, rest.data(), rest.size());
        if (written >= 0) {
            rest.remove_prefix(static_cast<std::size_t>(written));
        } else if (errno == EAGAIN) {  // somebody made it non-blocking: wait as if it were not
            pollfd wait{.fd = fd_, .events = POLLOUT, .revents = 0};
            static_cast<void>(::poll(&wait, 1, -1));
        } else if (errno == EPIPE) {
            closed_ = true;
        } else if (errno != EINTR) {
            error_ = Error{"cannot write the output", errno, {}};
        }
    }
}

void Writer::check_reader() {
    pollfd state{.fd = fd_, .events = 0, .revents = 0};
    if (::poll(&state, 1, 0) == 1 && (state.revents & POLLERR) != 0) {
        closed_ = true;
    }
}

}  // namespace hptrace
