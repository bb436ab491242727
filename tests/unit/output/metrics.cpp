// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/metrics.hpp"

#include <fmt/format.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <list>

#include "await.hpp"
#include "output/http_client.hpp"
#include "output/samples.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

struct Scraped {
    std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();
    std::unique_ptr<Output> output = make_metrics_output(registry, "1.2.3");

    [[nodiscard]] std::string text() const { return prometheus::TextSerializer().Serialize(registry->Collect()); }
    [[nodiscard]] bool has(const std::string& line) const {
        return ("\n" + text()).find("\n" + line + "\n") != std::string::npos;
    }
    [[nodiscard]] std::size_t count(const std::string& name) const {
        const auto all = text();
        std::size_t found = 0;
        for (auto at = all.find("\n" + name + "{"); at != std::string::npos; at = all.find("\n" + name + "{", at + 1)) {
            ++found;
        }
        return found;
    }
};

}  // namespace

TEST_CASE("a conflict is a series as long as it lasts") {
    const Scraped scraped;
    const auto known = conflict(ipvs_node(Backend::iptables_nft));
    const std::string line =
        R"(hptrace_conflict{owner="default/mysql-b-0",service="10.96.0.10:3306/tcp",winner="hostport"} 1)";
    CHECK(scraped.count("hptrace_conflict") == 0);
    scraped.output->conflict(known);
    CHECK(scraped.has(line));
    scraped.output->conflict(known);  // told again
    CHECK(scraped.has(line));
    scraped.output->conflict_ended(known);
    CHECK(scraped.count("hptrace_conflict") == 0);
    scraped.output->conflict_ended(known);
    scraped.output->conflict(known);
    CHECK(scraped.has(line));
}

TEST_CASE("verdicts are counted, shown or not; all of them exist from the beginning") {
    const Scraped scraped;
    CHECK(scraped.count("hptrace_connections_total") == 3 * verdict_count);
    CHECK(scraped.has(R"(hptrace_connections_total{protocol="tcp",verdict="hijacked"} 0)"));
    scraped.output->judged(hijack());
    scraped.output->judged(hijack());
    scraped.output->connection(hijack());  // shown: counted already
    CHECK(scraped.has(R"(hptrace_connections_total{protocol="tcp",verdict="hijacked"} 2)"));
    CHECK(scraped.has(
        R"(hptrace_bad_connections_total{owner="default/mysql-b-0",service="10.96.0.10:3306/tcp",verdict="hijacked"} 2)"));
    scraped.output->judged(
        finding(connection("192.168.0.2:3306", "10.224.0.222:3306"), ipvs_node(Backend::iptables_nft)));
    CHECK(scraped.has(R"(hptrace_connections_total{protocol="tcp",verdict="hostport"} 1)"));
    CHECK(scraped.count("hptrace_bad_connections_total") == 1);
}

TEST_CASE("however many Services are hit, series are bounded and nothing goes uncounted") {
    const Scraped scraped;
    auto found = hijack();
    auto known = conflict(ipvs_node(Backend::iptables_nft));
    for (std::size_t i = 0; i < most_metric_series + 50; ++i) {
        found.service->name = ServiceName{"default", fmt::format("s{}", i), ""};
        scraped.output->judged(found);
        known.service.name = found.service->name;
        known.conflict_id = fmt::format("c-{}", i);
        scraped.output->conflict(known);
    }
    CHECK(scraped.count("hptrace_bad_connections_total") == most_metric_series + 1);
    CHECK(scraped.has(R"(hptrace_bad_connections_total{owner="others",service="others",verdict="hijacked"} 50)"));
    CHECK(scraped.count("hptrace_conflict") == most_metric_series + 1);
    CHECK(scraped.has(R"(hptrace_conflict{owner="others",service="others",winner="hostport"} 50)"));
}

TEST_CASE("losses, reads and how it traces are there") {
    const Scraped scraped;
    CHECK(scraped.has(R"(hptrace_lost_total{where="ring_buffer"} 0)"));
    CHECK(scraped.has(R"(hptrace_build_info{version="1.2.3"} 1)"));
    CHECK(scraped.has("hptrace_tracing 0"));
    scraped.output->tracing("fexit");
    scraped.output->lost({"ring_buffer", 5});
    scraped.output->lost({"ring_buffer", 2});
    scraped.output->turn({.state_reads = 3, .state_age_ns = 1'500'000'000});
    scraped.output->turn({.state_reads = 4, .state_age_ns = 2'500'000'000, .unread = {.deciding = 1, .naming = 2}});
    CHECK(scraped.has("hptrace_tracing 1"));
    CHECK(scraped.has(R"(hptrace_lost_total{where="ring_buffer"} 7)"));
    CHECK(scraped.has("hptrace_unread_sources 1"));
    CHECK(scraped.has("hptrace_unread_name_sources 2"));
    CHECK(scraped.has("hptrace_state_reads_total 4"));
    CHECK(scraped.has("hptrace_state_age_seconds 2.5"));
    scraped.output->summary({});
    CHECK(scraped.has("hptrace_tracing 0"));
}

TEST_CASE("probes are shown as they are now") {
    const Scraped scraped;
    scraped.output->probes({{"nf_nat_setup_info", "none"}, {"ip_vs_schedule", "fexit"}});
    CHECK(scraped.has(R"(hptrace_probe_info{function="nf_nat_setup_info",mode="none"} 1)"));
    scraped.output->probes({{"nf_nat_setup_info", "fexit"}, {"ip_vs_schedule", "fexit"}});
    CHECK(scraped.has(R"(hptrace_probe_info{function="nf_nat_setup_info",mode="fexit"} 1)"));
    CHECK(scraped.has(R"(hptrace_probe_info{function="ip_vs_schedule",mode="fexit"} 1)"));
    CHECK(scraped.count("hptrace_probe_info") == 2);
}

TEST_CASE("an address that cannot be listened on is an error with the reason") {
    const auto first = MetricsServer::start("127.0.0.1:0");
    REQUIRE(first);
    const auto address = "127.0.0.1:" + std::to_string(first->port());
    const auto second = MetricsServer::start(address);
    REQUIRE_FALSE(second);
    CHECK(describe(second.error())
              .starts_with("cannot serve metrics: cannot listen on " + address + ": Address already in use"));
}

TEST_CASE("metrics are served as they are") {
    const auto server = MetricsServer::start("127.0.0.1:0");
    REQUIRE(server);
    const auto output = make_metrics_output(server->registry(), "1.2.3");
    const auto scraped = [&] { return http_get(server->port(), "/metrics"); };
    CHECK(scraped().find("Content-Type: text/plain; version=0.0.4") != std::string::npos);
    CHECK(scraped().find("\nhptrace_tracing 0\n") != std::string::npos);
    output->tracing("fexit");
    CHECK(eventually([&] { return scraped().find("\nhptrace_tracing 1\n") != std::string::npos; }));
}

TEST_CASE("it is alive while the trace turns, however many ask for something else") {
    const auto server = MetricsServer::start("127.0.0.1:0");
    REQUIRE(server);
    const auto output = make_metrics_output(server->registry(), "1.2.3", server->heartbeat());
    std::list<HttpClient> attackers;
    for (int i = 0; i < 600; ++i) {
        CHECK(attackers.emplace_back(server->port())
                  .send(i % 2 == 0 ? "GET /metr" : "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
    }
    const auto asked = [&] { return http_get(server->port(), "/healthz"); };
    const auto early = asked();
    CHECK(early.starts_with("HTTP/1.1 503 "));
    CHECK(early.ends_with("\r\n\r\nthe trace has not begun yet\n"));
    output->turn({});
    const auto alive = asked();
    CHECK(alive.starts_with("HTTP/1.1 200 "));
    CHECK(alive.find("\r\n\r\nok: ") != std::string::npos);
    server->heartbeat()->beat(std::chrono::steady_clock::now() - longest_turn - std::chrono::seconds(1));
    const auto stuck = asked();
    CHECK(stuck.starts_with("HTTP/1.1 503 "));
    CHECK(stuck.find("\r\n\r\nthe trace is stuck: ") != std::string::npos);
    output->turn({});
    CHECK(asked().starts_with("HTTP/1.1 200 "));
}
