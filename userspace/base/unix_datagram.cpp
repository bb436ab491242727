// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/unix_datagram.hpp"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <iterator>

namespace hptrace {

Fd unix_datagram_socket() {
    return Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

int send_unix_datagram(int socket, std::string_view path, std::string_view data) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= std::size(address.sun_path)) {
        return ENAMETOOLONG;
    }
    std::ranges::copy(path, std::begin(address.sun_path));
    const bool abstract = path.front() == '@';
    if (abstract) {
        address.sun_path[0] = '\0';
    }
    // An abstract name ends where the address does, not at a zero.
    const auto length = offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1);
    const auto sent = ::sendto(socket, data.data(), data.size(), MSG_NOSIGNAL, std::bit_cast<const sockaddr*>(&address),
                               static_cast<socklen_t>(length));
    return sent < 0 ? errno : 0;
}

}  // namespace hptrace
