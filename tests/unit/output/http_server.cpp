// SPDX-License-Identifier: GPL-2.0-or-later
// Against sockets that do what attackers and broken clients do. Limits that must not be reached are hours.
#include "output/http_server.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <chrono>
#include <list>
#include <thread>

#include "await.hpp"
#include "output/http_client.hpp"

using namespace hptrace;
using namespace hptrace::test;
using namespace std::chrono_literals;

namespace {

constexpr HttpServer::Limits patient{.connections = 8, .request = 1h, .answer = 1h};

std::vector<HttpPage> pages() {
    return {
        {.path = "/small", .make = [] { return HttpAnswer{.status = 200, .type = "text/plain", .body = "small\n"}; }},
        {.path = "/large",
         .make = [] { return HttpAnswer{.status = 200, .type = "text/plain", .body = std::string(16U << 20U, 'x')}; }},
        {.path = "/broken", .make = []() -> HttpAnswer { throw std::bad_alloc(); }}};
}

HttpServer started(HttpServer::Limits limits, const char* address = "127.0.0.1:0") {
    auto server = HttpServer::start(parse_endpoint(address).value(), pages(), limits);
    REQUIRE(server);
    return *std::move(server);
}

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

bool is_small(const std::string& answer) {
    return answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nsmall\n");
}

std::size_t closed(const std::list<HttpClient>& clients) {
    return static_cast<std::size_t>(std::ranges::count_if(clients, &HttpClient::is_closed));
}

}  // namespace

TEST_CASE("a page is answered, and the connection closed") {
    const auto server = started(patient);
    const auto answer = http_get(server.port(), "/small");
    CHECK(is_small(answer));
    CHECK(has(answer, "Content-Type: text/plain\r\n"));
    CHECK(is_small(http_get(server.port(), "/small?debug=1")));
    const auto head = http_get(server.port(), "/small", AF_INET, "HEAD");
    CHECK(head.starts_with("HTTP/1.1 200 "));
    CHECK(head.ends_with("\r\n\r\n"));
    CHECK(has(http_get(server.port(), "/large"), std::string(16U << 20U, 'x')));
}

TEST_CASE("IPv6 is served as well") {
    const auto server = started(patient, "[::1]:0");
    CHECK(is_small(http_get(server.port(), "/small", AF_INET6)));
}

TEST_CASE("what is no request for a page is refused, and the next one answered") {
    const auto server = started(patient);
    const auto missing = http_get(server.port(), "/");
    CHECK(missing.starts_with("HTTP/1.1 404 "));
    CHECK(has(missing, "/small\n/large\n"));
    const auto post = http_get(server.port(), "/small", AF_INET, "POST");
    CHECK(post.starts_with("HTTP/1.1 405 "));
    CHECK(has(post, "Allow: GET, HEAD\r\n"));
    CHECK(http_get(server.port(), "/broken").empty());
    const auto hasty = started({.connections = 8, .request = 500ms, .answer = 1h});
    for (const std::string& text : {std::string(400, '\0') + "\r\n\r\n", std::string("GET / HTTP/9.9\r\n\r\n"),
                                    std::string("POST /small HTTP/1.1\r\nContent-Length: -5\r\n\r\n"),
                                    "GET /small HTTP/1.1\r\nX: " + std::string(100'000, 'x') + "\r\n\r\n"}) {
        const HttpClient client(hasty.port());
        static_cast<void>(client.send(text));
        CHECK_FALSE(has(client.rest(), " 200 "));
        CHECK(is_small(http_get(hasty.port(), "/small")));
    }
}

TEST_CASE("clients that have half asked keep nobody from being answered") {
    const auto server = started(patient);
    std::list<HttpClient> attackers;
    for (std::size_t i = 0; i < 10 * patient.connections; ++i) {
        CHECK(attackers.emplace_back(server.port()).send("GET /small HTTP/1.1\r\nHost: x\r\n"));
        if (i % 20 == 0) {
            CHECK(is_small(http_get(server.port(), "/small")));
        }
    }
    CHECK(is_small(http_get(server.port(), "/small")));
    // There are never more of them than places.
    CHECK(eventually([&] { return closed(attackers) >= attackers.size() - patient.connections; }));
    // Those who came last are still here, and may finish.
    CHECK(attackers.back().send("\r\n"));
    CHECK(is_small(attackers.back().rest()));
}

TEST_CASE("a client with one connection keeps its place whatever one other client does") {
    const auto server = started(patient);
    const HttpClient kubelet(server.port(), AF_INET, INADDR_LOOPBACK + 1);
    CHECK(kubelet.send("GET /small HTTP/1.1\r\n"));
    std::list<HttpClient> attackers;
    const auto* const request =
        GENERATE("", "GET /small HTTP/1.1\r\nHost: x\r\n", "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    for (std::size_t i = 0; i < 10 * patient.connections; ++i) {
        CHECK(attackers.emplace_back(server.port()).send(request));
    }
    CHECK(eventually([&] { return closed(attackers) >= attackers.size() - patient.connections; }));
    CHECK(kubelet.send("Host: x\r\n\r\n"));
    CHECK(is_small(kubelet.rest()));
}

TEST_CASE("clients that do not take their answer keep nobody from being answered") {
    const auto server = started(patient);
    std::list<HttpClient> attackers;
    for (std::size_t i = 0; i < 10 * patient.connections; ++i) {
        CHECK(attackers.emplace_back(server.port()).send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n"));
    }
    CHECK(is_small(http_get(server.port(), "/small")));
    CHECK(eventually([&] { return closed(attackers) >= attackers.size() - patient.connections; }));
}

TEST_CASE("a client that says it will send no more is answered") {
    const auto server = started(patient);
    const HttpClient client(server.port());
    CHECK(client.send("GET /small HTTP/1.0\r\n\r\n"));
    client.end_sending();
    CHECK(has(client.rest(), "\r\n\r\nsmall\n"));
}

TEST_CASE("a request that comes byte by byte is cut off when its time is over") {
    const auto server = started({.connections = 8, .request = 200ms, .answer = 1h});
    const HttpClient client(server.port());
    CHECK(client.send("GET /small HTTP/1.1\r\nX: "));
    // It is never silent for long: a limit of the silence between two bytes would not end it.
    CHECK(eventually([&] { return !client.send("x") || client.is_closed(); }));
}

TEST_CASE("a connection without any request is cut off, and an answer that is not taken") {
    const auto server = started({.connections = 8, .request = 200ms, .answer = 400ms});
    const HttpClient silent(server.port());
    const HttpClient deaf(server.port());
    CHECK(deaf.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n"));
    CHECK(eventually([&] { return silent.is_closed(); }));
    CHECK(eventually([&] { return deaf.is_closed(); }));
    CHECK(deaf.rest().size() < 16U << 20U);
    CHECK(is_small(http_get(server.port(), "/small")));
}

TEST_CASE("a server ends while clients hold connections") {
    std::list<HttpClient> clients;
    {
        const auto server = started(patient);
        for (std::size_t i = 0; i < 4; ++i) {
            CHECK(clients.emplace_back(server.port())
                      .send(i % 2 == 0 ? "GET" : "GET /large HTTP/1.1\r\nHost: x\r\n\r\n"));
        }
        CHECK(is_small(http_get(server.port(), "/small")));
    }
    for (const auto& client : clients) {
        CHECK(client.rest().size() < 16U << 20U);
    }
}

TEST_CASE("a socket that cannot be bound is an error with errno") {
    const auto first = started(patient);
    const auto taken = HttpServer::start({parse_address("127.0.0.1").value(), first.port()}, pages(), patient);
    REQUIRE_FALSE(taken);
    CHECK(taken.error().code == EADDRINUSE);
    CHECK(has(describe(taken.error()), "127.0.0.1:" + std::to_string(first.port()) + ": Address already in use"));
    const auto elsewhere = HttpServer::start(parse_endpoint("192.0.2.1:9753").value(), pages(), patient);
    REQUIRE_FALSE(elsewhere);
    CHECK(elsewhere.error().code == EADDRNOTAVAIL);
    CHECK(has(describe(elsewhere.error()), "192.0.2.1:9753: Cannot assign requested address"));
}
