// SPDX-License-Identifier: GPL-2.0-or-later
// Lists of a real API, again and again.
#include <catch2/catch_test_macros.hpp>

#include "names/kube_names.hpp"
#include "names/kube_server.hpp"

using namespace hptrace;
using namespace hptrace::test;
using namespace std::chrono_literals;

namespace {

constexpr KubeNames::Timing often{.interval = 5ms, .first_backoff = 5ms, .longest_backoff = 10ms, .longest_use = 1h};

}  // namespace

TEST_CASE("a real list fails, comes, follows a new token, and stops while it hangs") {
    const KubeServer server;
    server.write("token", "old\n");
    server.behave(R"({"status": 500})");
    auto config = server.config();
    config.token = {.file = server.path("token"), .data = {}};
    auto lister = make_kube_lister(config, "node-2", {.connect = 600s, .total = 600s});
    REQUIRE(lister);
    const auto started = KubeNames::start(*std::move(lister), often);
    REQUIRE(started);
    const auto& names = *started;
    CHECK(next_news(*names) == "names from the Kubernetes API are missing: /api/v1/services answers 500");
    CHECK_FALSE(names->names());

    server.behave("{}");
    CHECK(next_news(*names) == "names from the Kubernetes API are there again");
    CHECK(names->names());

    server.behave(R"({"token": "new"})");
    const auto refused = next_news(*names);  // at whichever of the lists it was
    CHECK(refused.starts_with("names from the Kubernetes API are not renewed: /api"));
    CHECK(refused.ends_with(" answers 401: the token or client certificate is not accepted"));
    server.write("token", "new\n");
    // The next refusal can be at another list, which is told as well.
    CHECK(eventually([&] { return names->news() == "names from the Kubernetes API are there again"; }));

    const auto before = server.requests().size();
    server.behave(R"({"hang": true})");
    CHECK(eventually([&] { return server.requests().size() > before; }));
    // The end of the test is the end of the thread, which has ten minutes left otherwise.
}
