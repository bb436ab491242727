// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/records.hpp"

#include <arpa/inet.h>

#include <catch2/catch_test_macros.hpp>
#include <cstring>

using namespace hptrace;

namespace {

hptrace_end end_of(const char* text) {
    const auto endpoint = *parse_endpoint(text);
    hptrace_end out{};
    std::memcpy(out.ip, endpoint.ip.bytes.data(), sizeof(out.ip));
    out.port = htons(endpoint.port);
    return out;
}

hptrace_decision sample() {
    hptrace_decision record{};
    record.header = {.type = HPTRACE_RECORD_DECISION, .size = sizeof(record), .netns = 5, .boot_ns = 77, .changes = {}};
    record.header.changes.begin[HPTRACE_SOURCE_NFTABLES] = 3;
    record.ct = 0xffff888000000100;
    record.rule_ptr = 0xffffc90000000200;
    record.client = end_of("10.0.0.1:40000");
    record.original = end_of("10.96.0.10:3306");
    record.rewritten = end_of("10.224.0.5:13306");
    record.reply_dst = end_of("10.224.0.1:50000");
    record.zone = 9;
    record.family = AF_INET;
    record.l4proto = IPPROTO_TCP;
    record.mechanism = HPTRACE_MECHANISM_NF_NAT;
    return record;
}

std::optional<Observation> decode_record(const hptrace_decision& record) {
    return decode(std::as_bytes(std::span(&record, 1)));
}

}  // namespace

TEST_CASE("a decision becomes a connection") {
    const auto observation = decode_record(sample());
    REQUIRE(observation);
    CHECK(observation->kind == Observation::Kind::decision);
    CHECK(observation->ct == 0xffff888000000100);
    const auto& connection = observation->connection;
    CHECK(connection.mechanism == Mechanism::nf_nat);
    CHECK(connection.protocol == Protocol::tcp);
    CHECK(connection.netns == 5);
    CHECK(connection.zone == 9);
    CHECK(connection.boot_ns == 77);
    CHECK(to_string(connection.client) == "10.0.0.1:40000");
    CHECK(to_string(connection.original) == "10.96.0.10:3306");
    CHECK(to_string(connection.rewritten) == "10.224.0.5:13306");
    CHECK(connection.changes.begin[HPTRACE_SOURCE_NFTABLES] == 3);
    CHECK_FALSE(connection.existing);
}

TEST_CASE("what the record does not vouch for stays absent") {
    auto record = sample();
    record.pid = 12;
    std::memcpy(record.comm, "curl", 5);
    const auto without = decode_record(record);
    REQUIRE(without);
    CHECK_FALSE(without->connection.rule);
    CHECK_FALSE(without->connection.reply_destination);
    CHECK_FALSE(without->connection.committed);
    CHECK_FALSE(without->connection.process);

    record.valid = HPTRACE_VALID_RULE | HPTRACE_VALID_REPLY | HPTRACE_VALID_COMMITTED | HPTRACE_VALID_PID;
    const auto with = decode_record(record);
    REQUIRE(with);
    CHECK(with->connection.rule == 0xffffc90000000200);
    CHECK(to_string(with->connection.reply_destination.value()) == "10.224.0.1:50000");
    CHECK(with->connection.committed == true);
    REQUIRE(with->connection.process);
    CHECK(with->connection.process->pid == 12);
    CHECK(with->connection.process->comm == "curl");
}

TEST_CASE("a command name that fills its field has no terminator to rely on") {
    auto record = sample();
    record.valid = HPTRACE_VALID_PID;
    std::memset(record.comm, 'x', sizeof(record.comm));
    CHECK(decode_record(record)->connection.process->comm == std::string(16, 'x'));
}

TEST_CASE("IPv6, ip_vs and commits are told apart") {
    auto record = sample();
    record.header.type = HPTRACE_RECORD_COMMIT;
    record.family = AF_INET6;
    record.l4proto = IPPROTO_UDP;
    record.mechanism = HPTRACE_MECHANISM_IP_VS;
    record.original = end_of("[2001:db8::1]:53");
    const auto observation = decode_record(record);
    REQUIRE(observation);
    CHECK(observation->kind == Observation::Kind::commit);
    CHECK(observation->connection.mechanism == Mechanism::ip_vs);
    CHECK(observation->connection.protocol == Protocol::udp);
    CHECK(to_string(observation->connection.original) == "[2001:db8::1]:53");
    record.header.type = HPTRACE_RECORD_CLASH;
    CHECK(decode_record(record)->kind == Observation::Kind::clash);
}

TEST_CASE("bytes that are no record are refused") {
    const auto record = sample();
    const auto bytes = std::as_bytes(std::span(&record, 1));
    CHECK_FALSE(decode({}));
    CHECK_FALSE(decode(bytes.first(bytes.size() - 1)));

    const auto refused = [](auto change) {
        auto bad = sample();
        change(bad);
        return !decode_record(bad);
    };
    CHECK(refused([](auto& bad) { bad.header.type = 0; }));
    CHECK(refused([](auto& bad) { bad.header.type = 99; }));
    CHECK(refused([](auto& bad) { bad.header.size = 8; }));
    CHECK(refused([](auto& bad) { bad.family = 0; }));
    CHECK(refused([](auto& bad) { bad.l4proto = IPPROTO_ICMP; }));
    CHECK(refused([](auto& bad) { bad.mechanism = 0; }));
}
