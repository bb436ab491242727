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

// What GET and HEAD of exactly this path answer. `make` is called in the thread of the server, for every request; if it
// throws, the connection is closed without an answer.
struct HttpPage {
    std::string path;
    std::function<HttpAnswer()> make;
};

// Answers one request per connection, in a thread of its own that waits for all of them at once; HTTP is
// libmicrohttpd's. When all places are taken, a new connection gets the place of another one: of the client that holds
// the most places, the oldest one that has not asked for anything yet. (If new ones were refused instead, whoever holds
// all places would keep everyone out, and likewise if they had to wait.) So a client with one connection loses its
// place only to as many other clients as there are places, and only if these come before it has asked, as kubelet and
// Prometheus do at once.
class HttpServer {
public:
    struct Limits {
        std::size_t connections = 256;              // at the same time
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
