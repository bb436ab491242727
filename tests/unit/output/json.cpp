// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "output/samples.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

nlohmann::json as_json(const Finding& shown) {
    const Paper paper;
    Writer writer(paper.fd());
    make_json_output(writer, {.node = "node-2", .netns = 7, .clock_offset = fixed_offset})->connection(shown);
    const auto lines = paper.lines();
    REQUIRE(lines.size() == 1);
    return nlohmann::json::parse(lines[0]);
}

}  // namespace

TEST_CASE("a hijack as JSON") {
    auto shown = hijack();
    shown.connection.netns = 4026531840;
    shown.connection.boot_ns = 123'456'789;
    shown.state_boot_ns = 111'000'000;
    shown.connection.committed = true;
    shown.rule->handle = 12;
    CHECK(as_json(shown) == nlohmann::json::parse(R"({
        "type":"connection","schema":1,"time":"2026-01-31T10:00:00.123456789Z","node":"node-2","netns":4026531840,
        "protocol":"tcp","verdict":"hijacked","existing":false,"committed":true,
        "client":{"ip":"10.224.0.223","port":37266,"pod":{"namespace":"default","name":"app-1"}},
        "original":{"ip":"10.96.0.10","port":3306,"service":{"kind":"ClusterIP"}},
        "rewritten":{"ip":"10.224.0.222","port":3306,"pod":{"namespace":"default","name":"mysql-b-0"}},
        "mechanism":"nf_nat","expected":[{"ip":"10.224.0.224","port":3306}],"expected_total":1,
        "rule":{"producer":"portmap","backend":"iptables-nft","family":"ip","table":"nat",
                "chain":"CNI-DN-bd8e9ce301851b7745b41","handle":12,
                "text":"-A CNI-DN-bd8e9ce301851b7745b41 -p tcp -m tcp --dport 3306 -j DNAT --to-destination 10.224.0.222:3306",
                "network":"cbr0",
                "container_id":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                "stale":false,"attribution":"inferred","pod":{"namespace":"default","name":"mysql-b-0"}},
        "conflict_id":"c-2e64b543","reason_code":"other_backend",
        "reason":"10.96.0.10 is local (kube-ipvs0); kube-proxy's ACCEPT is in iptables-legacy and does not stop iptables-nft",
        "advice":"remove hostPort 3306 from the workload owning default/mysql-b-0, then reconnect clients: open connections stay; or let kube-proxy and the CNI plugins use the same iptables back end, or give hostPort 3306 a hostIP",
        "state_age_ms":12})"));
}

TEST_CASE("what is not known is absent") {
    auto made = connection("192.168.0.2:80", "10.9.9.9:80");
    made.client = end("192.0.2.1:1000");
    const auto json = as_json(finding(made, ipvs_node(Backend::iptables_nft)));
    for (const auto* name : {"committed", "expected", "expected_total", "rule", "conflict_id", "reason_code", "reason",
                             "advice", "process", "zone", "reply_destination"}) {
        INFO(name);
        CHECK_FALSE(json.contains(name));
    }
    CHECK_FALSE(json["client"].contains("pod"));
    CHECK_FALSE(json["original"].contains("service"));
}

TEST_CASE("optional facts are there when they are known") {
    auto made = connection("192.168.0.2:3306", "10.224.0.222:3306");
    made.process = Process{42, "mysql"};
    made.zone = 3;
    made.reply_destination = end("10.224.0.1:5000");
    made.committed = false;
    const auto json = as_json(finding(made, ipvs_node(Backend::iptables_nft)));
    CHECK(json["process"] == nlohmann::json{{"pid", 42}, {"comm", "mysql"}});
    CHECK(json["zone"] == 3);
    CHECK(json["reply_destination"]["port"] == 5000);
    CHECK(json["committed"] == false);
}

TEST_CASE("the first record says what was read, and every record has a time") {
    const Paper paper;
    Writer writer(paper.fd());
    const auto output = make_json_output(writer, {.node = "node-2",
                                                  .version = "0.2",
                                                  .netns = 7,
                                                  .boot_ns = [] { return std::uint64_t{123'000'000}; },
                                                  .clock_offset = fixed_offset});
    Beginning beginning;
    beginning.proxy = ProxyMode::ipvs;
    beginning.services = 2;
    beginning.hostports = 1;
    beginning.sources = {{"ip_vs", {SourceState::used, ""}},
                         {"nf_tables", {SourceState::unreadable, "Operation not permitted"}}};
    beginning.doubts = {"nf_tables could not be read: Operation not permitted"};
    output->begin(beginning);
    AuditSummary summary;
    summary.taken = 2;
    summary.served = 1;
    summary.unread_sources = {"nf_tables (Operation not permitted)"};
    summary.doubts = beginning.doubts;
    summary.exit_status = 3;
    output->audited(summary);
    const auto lines = paper.lines();
    REQUIRE(lines.size() == 2);
    CHECK(nlohmann::json::parse(lines[0]) == nlohmann::json::parse(R"({
        "type":"node","schema":1,"time":"2026-01-31T10:00:00.123000000Z","node":"node-2","netns":7,"version":"0.2",
        "proxy":"ipvs","services":2,"hostports":1,
        "sources":{"ip_vs":{"state":"used"},"nf_tables":{"state":"unreadable","why":"Operation not permitted"}},
        "doubts":["nf_tables could not be read: Operation not permitted"]})"));
    CHECK(nlohmann::json::parse(lines[1]) == nlohmann::json::parse(R"x({
        "type":"summary","schema":1,"time":"2026-01-31T10:00:00.123000000Z","node":"node-2","netns":7,
        "conflicts":{"hostport":2,"depends":0,"service":1,"harmless":0},"leaked":0,
        "unread_sources":["nf_tables (Operation not permitted)"],
        "doubts":["nf_tables could not be read: Operation not permitted"],"exit_status":3
})x"));
}

TEST_CASE("names that are no text become harmless JSON") {
    auto evil = hijack();
    evil.rule->network = "\xff\xfe\x1b[2J\n";
    const auto json = as_json(evil);
    CHECK(json["rule"]["network"].get<std::string>().find("[2J") != std::string::npos);
}
