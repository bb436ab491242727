// SPDX-License-Identifier: GPL-2.0-or-later
// Small pages over HTTP, for whoever reaches the port: nobody who does may keep others from being answered.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"

namespace hptrace {

struct HttpAnswer {
    unsigned status = 200;
    std::string type;  // Content-Type
    std::string body;
};

// What GET and HEAD of exactly this path answer. `make` is called in the thread of the server, for every request.
struct HttpPage {
    std::string path;
    std::function<HttpAnswer()> make;
};

// Answers one request per connection, in a thread of its own that holds nobody up: HTTP by libmicrohttpd, which never
// accepts or waits itself. When all places are taken a new connection gets the place of the oldest one that has not
// asked for anything yet. (If the new one were refused instead, whoever holds all places would keep everyone out; if it
// waited in the kernel's queue, behind whatever else waits there, the same.) A client that asks at once, as kubelet and
// Prometheus do, is answered within milliseconds; to be faster than that, an attacker would have to make a whole round
// of all places in this time.
class HttpServer {
public:
    struct Limits {
        std::size_t connections = 64;               // at the same time
        std::chrono::milliseconds request{2'000};   // from the connection to the end of the request's header
        std::chrono::milliseconds answer{10'000};   // from the connection to the last byte of the answer
        std::size_t memory_per_connection = 8'192;  // bytes, for the headers of request and answer: else status 431
    };

    // Listens in the network namespace of the calling thread. Port 0: any. Error: with errno, what could not be done,
    // and what to do about it.
    static Result<HttpServer> start(const Endpoint& address, std::vector<HttpPage> pages, Limits limits);

    HttpServer(HttpServer&&) noexcept;
    HttpServer& operator=(HttpServer&&) noexcept;
    HttpServer(const HttpServer&) = delete;
    HttpServer& operator=(const HttpServer&) = delete;
    ~HttpServer();  // closes all connections

    [[nodiscard]] std::uint16_t port() const;  // that it listens on

private:
    class Loop;
    explicit HttpServer(std::unique_ptr<Loop> loop);
    std::unique_ptr<Loop> loop_;
};

}  // namespace hptrace
