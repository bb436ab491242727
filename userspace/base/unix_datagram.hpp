// SPDX-License-Identifier: GPL-2.0-or-later
// Datagrams to a socket of systemd's: journald's and the service manager's.
#pragma once

#include <string_view>

#include "base/fd.hpp"

namespace hptrace {

// A socket that never waits; none if it cannot be made.
Fd unix_datagram_socket();

// Sends one datagram to a path, or to an abstract name that begins with '@'. Returns 0 or errno: EAGAIN if the receiver
// does not read, ENOENT or ECONNREFUSED if there is none, EMSGSIZE if it is too long for a datagram.
int send_unix_datagram(int socket, std::string_view path, std::string_view data);

}  // namespace hptrace
