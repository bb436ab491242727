// SPDX-License-Identifier: GPL-2.0-or-later
// A client of a server on this machine's loopback, byte by byte: well-behaved or not.
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cerrno>
#include <cstdint>
#include <string>

#include "base/fd.hpp"

namespace hptrace::test {

class HttpClient {
public:
    // source: the address it comes from, of 127.0.0.0/8.
    explicit HttpClient(std::uint16_t port, int family = AF_INET, std::uint32_t source = INADDR_LOOPBACK)
        : socket_(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        REQUIRE(socket_);
        // A server that does not answer fails the test, after far more than a loaded machine needs.
        const timeval longest{.tv_sec = 60, .tv_usec = 0};
        REQUIRE(::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof(longest)) == 0);
        int result = -1;
        if (family == AF_INET) {
            sockaddr_in to{};
            to.sin_family = AF_INET;
            to.sin_addr.s_addr = htonl(source);
            REQUIRE(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0);
            to.sin_port = htons(port);
            to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            result = ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to));
        } else {
            sockaddr_in6 to{};
            to.sin6_family = AF_INET6;
            to.sin6_port = htons(port);
            to.sin6_addr = in6addr_loopback;
            result = ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to));
        }
        REQUIRE(result == 0);
    }

    // False: the server has closed the connection.
    [[nodiscard]] bool send(const std::string& text) const {
        return ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
    }
    void end_sending() const { CHECK(::shutdown(socket_.get(), SHUT_WR) == 0); }
    // All that comes until the server closes the connection.
    [[nodiscard]] std::string rest() const {
        std::string text;
        std::array<char, 65536> part{};
        for (;;) {
            const auto got = ::recv(socket_.get(), part.data(), part.size(), 0);
            if (got <= 0) {
                CHECK((got == 0 || errno == ECONNRESET));
                return text;
            }
            text.append(part.data(), static_cast<std::size_t>(got));
        }
    }
    // Closed by the server, whether or not there is something left to read.
    [[nodiscard]] bool is_closed() const {
        pollfd waited{.fd = socket_.get(), .events = POLLRDHUP, .revents = 0};
        return ::poll(&waited, 1, 0) == 1;
    }

private:
    Fd socket_;
};

// The whole answer, with its header; empty: none.
inline std::string http_get(std::uint16_t port, const std::string& path, int family = AF_INET,
                            const std::string& method = "GET") {
    const HttpClient client(port, family);
    static_cast<void>(client.send(method + " " + path + " HTTP/1.1\r\nHost: node\r\n\r\n"));
    return client.rest();
}

}  // namespace hptrace::test
