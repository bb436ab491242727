// SPDX-License-Identifier: GPL-2.0-or-later
#include "names/kube_client.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <thread>

#include "names/kube_list.hpp"
#include "names/kube_server.hpp"

using namespace hptrace;
using namespace hptrace::test;
using namespace std::chrono_literals;

namespace {

// Far more than a loaded machine needs.
constexpr KubeClient::Limits generous{.connect = 60s, .total = 60s};

std::expected<std::string, KubeFailure> get(const KubeConfig& config, const std::string& path = "/api/v1/services",
                                            KubeClient::Limits limits = generous) {
    auto client = KubeClient::make(config, limits);
    REQUIRE(client);
    return client->get(path, {});
}

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

KubeListing list(const KubeConfig& config, const std::string& node = "node-2") {
    const auto lister = make_kube_lister(config, node, generous);
    REQUIRE(lister);
    return (*lister)({});
}

std::string service(int number) {
    const auto n = std::to_string(number);
    return R"({"metadata": {"namespace": "default", "name": "s)" + n + R"("}, "spec": {"clusterIP": "10.96.0.)" + n +
           R"(", "ports": [{"port": 80}]}})";
}

const ServiceName* find(const ClusterNames& names, int number) {
    Service wanted;
    wanted.ip = parse_address("10.96.0." + std::to_string(number));
    wanted.port = 80;
    return names.services.find(wanted);
}

}  // namespace

TEST_CASE("the server must have a certificate of the right authority for the right name") {
    const KubeServer server;
    auto config = server.config();
    const auto answer = get(config);
    REQUIRE(answer);
    CHECK(has(*answer, "ServiceList"));

    SECTION("another authority") {
        config.ca.file = server.path("other-ca.pem");
        const auto refused = get(config);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().status == 0);
        CHECK(has(refused.error().why, "certificate"));
    }
    SECTION("none: the system's") {
        config.ca = {};
        CHECK_FALSE(get(config));
    }
    SECTION("an authority that is none") {
        config.ca = {.file = {}, .data = "nonsense"};
        CHECK_FALSE(get(config));
    }
    SECTION("another name") {
        config.server = "https://localhost:" + server.port();
        CHECK_FALSE(get(config));
        config.tls_server_name = "kube.test";
        CHECK(get(config));
        CHECK(server.requests().back() == "/api/v1/services secret - localhost:" + server.port());
        config.tls_server_name = "other.test";
        CHECK_FALSE(get(config));
    }
    SECTION("nobody saw the token who must not") {
        CHECK(server.requests().size() == 1);
    }
}

TEST_CASE("a client certificate is shown") {
    const KubeServer server;
    auto config = server.config("");
    config.client_certificate.file = server.path("client.pem");
    config.client_key.file = server.path("client.key");
    REQUIRE(get(config));
    CHECK(server.requests().back() == "/api/v1/services - client 127.0.0.1:" + server.port());
}

TEST_CASE("a refusal is one line with what the API says") {
    const KubeServer server;
    const auto [behaviour, status, why] = GENERATE(table<std::string, int, std::string>({
        {R"({"status": 403, "message": "services is forbidden: User \"u\" cannot list resource \"services\""})", 403,
         "/api/v1/services answers 403: services is forbidden: User \"u\" cannot list resource \"services\""},
        {R"({"status": 403})", 403, "/api/v1/services answers 403: the right to list them is missing"},
        {R"({"token": "other"})", 401, "/api/v1/services answers 401: the token or client certificate is not accepted"},
        {R"({"status": 500})", 500, "/api/v1/services answers 500"},
        {R"({"redirect": "https://127.0.0.1:1/"})", 302, "/api/v1/services answers 302: hptrace follows no redirects"},
    }));
    server.behave(behaviour);
    const auto refused = get(server.config(), "/api/v1/services?limit=500");
    REQUIRE_FALSE(refused);
    CHECK(refused.error().status == status);
    CHECK(refused.error().why == why);
}

TEST_CASE("nobody there, no answer, too long an answer: one line each") {
    const KubeServer server;
    auto config = server.config();
    SECTION("nobody there") {
        config.server = "https://127.0.0.1:1";
        CHECK(get(config).error().why == "https://127.0.0.1:1: Connection refused");
    }
    SECTION("no answer") {
        server.behave(R"({"hang": true})");
        const auto failed = get(config, "/x", {.connect = 60s, .total = 1500ms});
        REQUIRE_FALSE(failed);
        CHECK(has(failed.error().why, " within "));
        CHECK(failed.error().status == 0);
    }
    SECTION("too long") {
        server.behave(R"({"fill": 100000})");
        CHECK(has(
            get(config, "/api/v1/pods?resourceVersion=0", {.connect = 60s, .total = 60s, .body = 99'999}).error().why,
            "more than 99999 bytes"));
        CHECK(get(config, "/api/v1/pods?resourceVersion=0", {.connect = 60s, .total = 60s, .body = 100'000}));
    }
    SECTION("the token is gone") {
        config.token = {.file = server.path("none"), .data = {}};
        CHECK(has(get(config).error().why, "cannot read "));
    }
}

TEST_CASE("a request that hangs, or never ends, ends when it is to stop") {
    const KubeServer server;
    const auto* const behaviour = GENERATE(R"({"hang": true})", R"({"endless": "{\"items\": ["})");
    server.behave(behaviour);
    auto client = KubeClient::make(server.config(), {.connect = 600s, .total = 600s});
    REQUIRE(client);
    bool answered = true;
    std::jthread asking([&](const std::stop_token& stop) { answered = client->get("/x", stop).has_value(); });
    CHECK(eventually([&] { return !server.requests().empty(); }));
    asking.request_stop();
    asking.join();  // else the test takes ten minutes, which it has not
    CHECK_FALSE(answered);
}

TEST_CASE("an address that is none is an error before anything is sent") {
    for (const auto* const server : {"https://", "ftp://a", "https://user:password@a", "https://a?b", "https://a b"}) {
        KubeConfig config;
        config.server = server;
        CAPTURE(server);
        CHECK_FALSE(KubeClient::make(config, generous));
    }
}

TEST_CASE("a list has Services, endpoints and this node's pods, from the API's cache") {
    const KubeServer server;
    server.write("services.json", "[" + service(1) + "]");
    const auto listing = list(server.config());
    CHECK(listing.failures.empty());
    REQUIRE(listing.names);
    CHECK(find(*listing.names, 1)->name == "s1");
    const auto rest = " secret - 127.0.0.1:" + server.port();
    CHECK(server.requests() ==
          std::vector<std::string>{
              "/api/v1/services?limit=500&resourceVersion=0" + rest,
              "/apis/discovery.k8s.io/v1/endpointslices?limit=500&resourceVersion=0" + rest,
              "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-2&limit=500&resourceVersion=0" + rest});
}

TEST_CASE("a list of several pages is continued, and begun again when its moment is gone") {
    const KubeServer server;
    server.write("services.json", "[" + service(1) + "," + service(2) + "," + service(3) + "]");
    const auto gone = GENERATE(0, 1, 2, 100);
    server.behave(R"({"page": 1, "gone": )" + std::to_string(gone) + "}");
    const auto listing = list(server.config());
    if (gone == 100) {
        CHECK_FALSE(listing.names);
        CHECK(listing.failures.size() == 1);
        return;
    }
    REQUIRE(listing.names);
    CHECK(listing.names->services.size() == 3);
    CHECK(find(*listing.names, 3) != nullptr);
    CHECK(has(server.requests().at(1), "/api/v1/services?limit=500&continue=1%20%2B%2F%3D "));
}

TEST_CASE("a list that is too large at once is taken page by page") {
    const KubeServer server;
    server.write("services.json", "[" + service(1) + "," + service(2) + "]");
    server.behave(R"({"page": 1, "fill": 100000, "only": "/api/v1/services"})");
    const auto lister = make_kube_lister(server.config(), "node-2", {.connect = 60s, .total = 60s, .body = 10'000});
    REQUIRE(lister);
    const auto listing = (*lister)({});
    CHECK(listing.failures.empty());
    REQUIRE(listing.names);
    CHECK(listing.names->services.size() == 2);
    CHECK(has(server.requests().at(1), "/api/v1/services?limit=500&continue= "));
}

TEST_CASE("what the API refuses is missing, the rest is there") {
    const KubeServer server;
    server.write("services.json", "[" + service(1) + ", 5]");
    server.behave(R"({"status": 403, "only": "/api/v1/pods"})");
    const auto listing = list(server.config());
    REQUIRE(listing.names);
    CHECK(listing.names->services.size() == 1);
    CHECK(listing.failures == std::vector<std::string>{"/api/v1/pods answers 403: the right to list them is missing",
                                                       "1 objects were not understood"});
}

TEST_CASE("more names than are kept are left out, and that is said") {
    const KubeServer server;
    std::string ports;
    for (int port = 1; port <= 20; ++port) {
        ports += (port == 1 ? "" : ",") + (R"({"port": )" + std::to_string(port) + "}");
    }
    std::string addresses;
    for (int i = 0; i < 600; ++i) {
        addresses +=
            (i == 0 ? "\"" : ",\"") + ("198.18." + std::to_string(i / 200) + "." + std::to_string(i % 200)) + "\"";
    }
    server.write("services.json", "[" + service(1) + R"(, {"metadata": {"namespace": "default", "name": "large"},
        "spec": {"ports": [)" + ports +
                                      R"(], "externalIPs": [)" + addresses + "]}}]");
    const auto listing = list(server.config());
    REQUIRE(listing.names);
    CHECK(find(*listing.names, 1) != nullptr);
    CHECK(listing.names->services.size() == 1 + most_names_per_object);
    CHECK(listing.failures ==
          std::vector<std::string>{"2000 more than hptrace keeps (10000 of one object, 500000 in all) are left out"});
}

TEST_CASE("a list that never ends is given up") {
    const KubeServer server;
    server.write("services.json", "[" + service(1) + "," + service(2) + "]");
    server.behave(R"({"page": 1})");
    auto limits = generous;
    limits.listing = 0s;
    const auto lister = make_kube_lister(server.config(), "node-2", limits);
    REQUIRE(lister);
    CHECK((*lister)({}).failures == std::vector<std::string>{"/api/v1/services: the list does not end in time"});
}

TEST_CASE("an answer that is no list of the API costs no more than its bytes") {
    const KubeServer server;
    const auto [behaviour, why] = GENERATE(table<std::string, std::string>({
        {R"({"raw": ["[", 1000000], "only": "/api/v1/services"})",
         "/api/v1/services: the answer is nested more than 64 levels deep"},
        {R"({"raw": ["x", 3000000], "only": "/api/v1/services"})",
         "/api/v1/services: the answer is not JSON, or cut off"},
        {R"({"raw": ["[", 1000000], "status": 403, "only": "/api/v1/services"})",
         "/api/v1/services answers 403: the right to list them is missing"},
    }));
    server.behave(behaviour);
    const auto failures = list(server.config()).failures;
    REQUIRE_FALSE(failures.empty());
    CHECK(failures.front() == why);
}

TEST_CASE("half a list is none") {
    const KubeServer server;
    server.write("services.json", "[" + service(1) + "]");
    const auto* const behaviour =
        GENERATE(R"({"status": 500, "only": "/api/v1/pods"})", R"({"cut": true, "only": "/api/v1/pods"})");
    server.behave(behaviour);
    const auto listing = list(server.config());
    CHECK_FALSE(listing.names);
    CHECK(listing.failures.size() == 1);
}

TEST_CASE("a node that the API does not know by this name is said") {
    const KubeServer server;
    server.write("endpointslices.json", R"([{"metadata": {"namespace": "a", "name": "b"}, "ports": [{"port": 1}],
        "endpoints": [{"addresses": ["10.224.1.2"], "nodeName": "node-1"}]}])");
    CHECK(has(list(server.config(), "node-2").failures.at(0), "no pods of node 'node-2'"));
    CHECK(list(server.config(), "node-1").failures.empty());
}

TEST_CASE("a failure to reach the API's own Service names the hostPort as a possible reason") {
    KubeConfig config;
    config.server = "https://127.0.0.1:1";
    CHECK(list(config).failures == std::vector<std::string>{"https://127.0.0.1:1: Connection refused"});
    config.in_cluster = true;
    CHECK(list(config).failures ==
          std::vector<std::string>{"https://127.0.0.1:1: Connection refused; its own Service address "
                                   "https://127.0.0.1:1 may be the one a hostPort takes"});
}
