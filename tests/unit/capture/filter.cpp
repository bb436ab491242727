// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/filter.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

using namespace hptrace;

namespace {

Connection sample() {
    Connection connection;
    connection.netns = 7;
    connection.client = *parse_endpoint("10.0.0.1:40000");
    connection.original = *parse_endpoint("10.96.0.10:3306");
    connection.rewritten = *parse_endpoint("10.224.0.5:13306");
    return connection;
}

template <class Change>
Filter with(Change change) {
    Filter filter;
    change(filter);
    return filter;
}

Filter with_ports(std::vector<PortRange> ports) {
    return with([&](Filter& filter) { filter.ports = std::move(ports); });
}

Filter with_dest(const char* prefix) {
    return with([&](Filter& filter) { filter.dest = parse_prefix(prefix); });
}

Filter with_source(const char* prefix) {
    return with([&](Filter& filter) { filter.source = parse_prefix(prefix); });
}

}  // namespace

TEST_CASE("an empty filter lets everything through") {
    CHECK(matches({}, sample()));
}

TEST_CASE("ports mean the original destination port, not the rewritten or the client's") {
    CHECK(matches(with_ports({{3306, 3306}}), sample()));
    CHECK(matches(with_ports({{1, 2}, {3000, 4000}}), sample()));
    CHECK_FALSE(matches(with_ports({{13306, 13306}}), sample()));
    CHECK_FALSE(matches(with_ports({{40000, 40000}}), sample()));
    CHECK_FALSE(matches(with_ports({{3307, 65535}, {0, 3305}}), sample()));
}

TEST_CASE("the destination filter takes the original and the rewritten address") {
    CHECK(matches(with_dest("10.96.0.0/12"), sample()));
    CHECK(matches(with_dest("10.224.0.5"), sample()));
    CHECK_FALSE(matches(with_dest("10.0.0.1"), sample()));
    CHECK_FALSE(matches(with_dest("::/0"), sample()));
}

TEST_CASE("source, family, protocol and namespace restrict") {
    CHECK(matches(with_source("10.0.0.0/24"), sample()));
    CHECK_FALSE(matches(with_source("10.96.0.0/12"), sample()));
    CHECK(matches(with([](Filter& filter) { filter.family = Family::ipv4; }), sample()));
    CHECK_FALSE(matches(with([](Filter& filter) { filter.family = Family::ipv6; }), sample()));
    CHECK(matches(with([](Filter& filter) { filter.protocols = {Protocol::udp, Protocol::tcp}; }), sample()));
    CHECK_FALSE(matches(with([](Filter& filter) { filter.protocols = {Protocol::sctp}; }), sample()));
    CHECK(matches(with([](Filter& filter) { filter.netns = 7; }), sample()));
    CHECK_FALSE(matches(with([](Filter& filter) { filter.netns = 8; }), sample()));
}

TEST_CASE("prefixes reach the kernel as address and mask in network order") {
    const auto record = to_record(with([](Filter& filter) {
        filter.dest = parse_prefix("10.97.255.255/12");
        filter.source = parse_prefix("2001:db8:ffff::1/33");
    }));
    REQUIRE(record);
    CHECK(record->dest.family == 2);
    CHECK(record->dest.ip[0] == 10);
    CHECK(record->dest.ip[1] == 96);  // host bits are gone, or no address would match
    CHECK(record->dest.ip[2] == 0);
    CHECK(record->dest.mask[1] == 0xf0);
    CHECK(record->dest.mask[2] == 0);
    CHECK(record->source.family == 10);
    CHECK(record->source.ip[4] == 0x80);
    CHECK(record->source.mask[4] == 0x80);
    CHECK(record->source.mask[5] == 0);

    const auto all = to_record(with_dest("0.0.0.0/0"));
    REQUIRE(all);
    CHECK(all->dest.family == 2);
    CHECK(std::ranges::all_of(all->dest.mask, [](auto byte) { return byte == 0; }));
    const auto host = to_record(with_dest("::1"));
    REQUIRE(host);
    CHECK(std::ranges::all_of(host->dest.mask, [](auto byte) { return byte == 0xff; }));
}

TEST_CASE("ports, protocols, family and namespace reach the kernel") {
    const auto record = to_record(with([](Filter& filter) {
        filter.netns = 4026531840;
        filter.ports = {{3306, 3306}, {8000, 8100}};
        filter.protocols = {Protocol::tcp, Protocol::sctp};
        filter.family = Family::ipv6;
    }));
    REQUIRE(record);
    CHECK(record->netns == 4026531840);
    REQUIRE(record->port_count == 2);
    CHECK(record->ports[1].first == 8000);
    CHECK(record->ports[1].last == 8100);
    REQUIRE(record->proto_count == 2);
    CHECK(record->protos[1] == 132);
    CHECK(record->family == 10);
}

TEST_CASE("more ports than a record has room for are an error, not a smaller filter") {
    Filter filter;
    filter.ports.resize(HPTRACE_FILTER_PORTS);
    CHECK(to_record(filter));
    filter.ports.emplace_back();
    REQUIRE_FALSE(to_record(filter));
    CHECK(to_record(filter).error().what.contains("33"));

    filter.ports.clear();
    filter.protocols.resize(7, Protocol::tcp);
    CHECK_FALSE(to_record(filter));
}
