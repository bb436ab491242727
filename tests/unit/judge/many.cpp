// SPDX-License-Identifier: GPL-2.0-or-later
// Namespaces as large as anybody can make his own. Every one of these took minutes, or did not end, when each Service
// was compared with each rule.
#include <fmt/format.h>

#include <catch2/catch_test_macros.hpp>

#include "judge/doubts.hpp"
#include "node.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

constexpr std::size_t many = 20'000;

Address address(std::uint8_t first, std::size_t number) {
    return ip(fmt::format("{}.{}.{}.{}", first, number >> 16U & 255U, number >> 8U & 255U, number & 255U).c_str());
}

// Services on one port, each on an address of its own; `local`: of the node.
NodeState services(ServiceKind kind, bool local = true) {
    auto state = ipvs_node(Backend::iptables_nft);
    const auto service = state.services[0];
    state.services.clear();
    state.hostports.clear();
    for (std::size_t i = 0; i < many; ++i) {
        state.services.push_back(service);
        state.services.back().kind = kind;
        state.services.back().ip = address(10, i);
        if (local) {
            state.local_addresses.push_back({{address(10, i), 32}, "kube-ipvs0"});
        }
    }
    return state;
}

// NodePorts on all addresses of the node, each its own port.
NodeState node_ports() {
    auto state = iptables_node(Backend::iptables_nft);
    const auto service = state.services[1];
    state.services.clear();
    state.hostports.clear();
    for (std::size_t i = 0; i < many; ++i) {
        state.services.push_back(service);
        state.services.back().port = static_cast<std::uint16_t>(10'000 + i);
    }
    return state;
}

// As many rules, on the same port but for what `change` does to each.
template <class Change>
FoundConflicts with_rules(NodeState state, Change change) {
    for (std::size_t i = 0; i < many; ++i) {
        auto rule = hostport(Backend::iptables_nft);
        rule.chain = fmt::format("CNI-DN-{}", i);
        rule.order = static_cast<std::uint32_t>(i);
        change(rule, i);
        state.hostports.push_back(std::move(rule));
    }
    state.index();
    return find_conflicts(state, {});
}

FoundConflicts with_rules(NodeState state) {
    return with_rules(std::move(state), [](HostPortRule&, std::size_t) {});
}

bool all_found(const FoundConflicts& found, std::size_t count) {
    return !found.given_up && found.doubts.empty() && found.conflicts.size() == count;
}

bool given_up(const FoundConflicts& found) {
    return found.given_up && found.conflicts.size() <= most_conflicts && found.doubts.size() == 1 &&
           found.doubts[0].find("not all of them were compared") != std::string::npos;
}

}  // namespace

TEST_CASE("as many Services as rules on one port: the first rule takes them all") {
    const auto found = with_rules(services(ServiceKind::cluster_ip));
    CHECK(all_found(found, many));
    CHECK(found.conflicts.front().rule.chain == "CNI-DN-0");
    CHECK(found.conflicts.back().rule.chain == "CNI-DN-0");
    CHECK(all_found(with_rules(services(ServiceKind::node_port)), 1));
}

TEST_CASE("each rule has the hostIP of a Service, or of none") {
    const auto host_ip = [](std::uint8_t first) {
        return [first](HostPortRule& rule, std::size_t i) { rule.host_ip = Prefix{address(first, i), 32}; };
    };
    CHECK(all_found(with_rules(services(ServiceKind::cluster_ip), host_ip(10)), many));
    CHECK(all_found(with_rules(services(ServiceKind::cluster_ip), host_ip(11)), 0));
    CHECK(all_found(with_rules(node_ports(), host_ip(11)), 0));
}

TEST_CASE("rules for local addresses are not compared with Services on others") {
    const auto conditional = [](HostPortRule& rule, std::size_t) { rule.conditional = true; };
    CHECK(all_found(with_rules(services(ServiceKind::cluster_ip, false), conditional), 0));
}

TEST_CASE("each NodePort has a rule of its own, or all rules are for all of them") {
    CHECK(all_found(with_rules(node_ports(),
                               [](HostPortRule& rule, std::size_t i) {
                                   const auto port = static_cast<std::uint16_t>(10'000 + i);
                                   rule.port = {port, port};
                               }),
                    many));
    CHECK(all_found(with_rules(node_ports(), [](HostPortRule& rule, std::size_t) { rule.port = {1, 65535}; }), many));
}

TEST_CASE("many addresses of the node, of which the rules want none") {
    auto state = node_ports();
    for (std::size_t i = 0; i < many; ++i) {
        state.local_addresses.push_back({{address(20, i * 4), 30}, "eth0"});
    }
    const auto elsewhere = [](HostPortRule& rule, std::size_t i) {
        const auto port = static_cast<std::uint16_t>(10'000 + i);
        rule.port = {port, port};
        rule.host_ip = Prefix{address(12, i * 4), 30};
    };
    CHECK(given_up(with_rules(std::move(state), elsewhere)));
}

TEST_CASE("what cannot be compared in full is given up, and that is said") {
    const auto conditional = [](HostPortRule& rule, std::size_t) { rule.conditional = true; };
    const auto found = with_rules(services(ServiceKind::cluster_ip), conditional);
    CHECK(given_up(found));
    CHECK(found.conflicts.size() == most_conflicts);
    CHECK(given_up(with_rules(services(ServiceKind::cluster_ip), [](HostPortRule& rule, std::size_t) {
        rule.not_destinations = {*parse_prefix("10.0.0.0/8")};
    })));
    CHECK(given_up(with_rules(node_ports(), [](HostPortRule& rule, std::size_t i) {  // ranges for none of them
        rule.port = {static_cast<std::uint16_t>(i % 100 + 1), static_cast<std::uint16_t>(i / 100 + 200)};
    })));
}

TEST_CASE("a Service that everything points to is not copied for each") {
    auto state = services(ServiceKind::cluster_ip);
    state.services.resize(1);
    for (std::size_t i = 0; i < many; ++i) {
        state.services[0].endpoints.push_back({address(11, i), 80});
    }
    const auto conditional = [](HostPortRule& rule, std::size_t) { rule.conditional = true; };
    const auto found = with_rules(std::move(state), conditional);
    CHECK(given_up(found));
    CHECK(found.conflicts.size() < 100);
}

TEST_CASE("ports of what is known, and as many rules that were not understood") {
    auto state = ipvs_node(Backend::iptables_nft);
    const auto rule = state.hostports[0];
    for (std::size_t i = 0; i < many; ++i) {
        state.hostports.push_back(rule);
        state.hostports.back().port = {static_cast<std::uint16_t>(i % 100), static_cast<std::uint16_t>(i / 100 + 100)};
        const auto port = static_cast<std::uint16_t>(40'000 + i);
        state.unread_rules.push_back(
            {Backend::iptables_nft, Family::ipv4, "KUBE-SERVICES", "-m brandnew", Protocol::tcp, {{port, port}}});
    }
    state.hostports.push_back(rule);
    state.hostports.back().port = {1, 39'999};
    state.index();
    CHECK(doubts(state, {}).empty());
    state.hostports.back().port = {1, 40'000};
    CHECK(doubts(state, {}).size() == 1);
}

TEST_CASE("an address among as many networks of the node") {
    NodeState state;
    for (std::size_t i = 0; i < many; ++i) {
        state.local_addresses.push_back({{address(10, i * 4), 30}, "eth0"});
    }
    state.local_addresses.push_back(local("10.0.0.0/8", "eth1"));
    state.local_addresses.push_back(local("2001:db8::/30", "eth2"));
    state.index();
    std::size_t found = 0;
    for (std::size_t i = 0; i < 10 * many; ++i) {
        found += state.find_local(address(10, i * 4 + 3))->device == "eth0" ? 1U : 0U;
    }
    CHECK(found == many);
    CHECK(state.find_local(ip("10.200.0.1"))->device == "eth1");
    CHECK(state.find_local(ip("2001:dbb::1"))->device == "eth2");
    CHECK(state.find_local(ip("11.0.0.1")) == nullptr);
}

TEST_CASE("connections among as many rules") {
    auto state = ipvs_node(Backend::iptables_nft);
    const auto rule = state.hostports[0];
    for (std::size_t i = 0; i < many; ++i) {
        state.hostports.push_back(rule);
        state.hostports.back().target = {address(20, i), 80};
    }
    state.index();
    std::size_t found = 0;
    for (std::size_t i = 0; i < many; ++i) {
        const auto made = connection("10.96.0.10:3306", to_string(Endpoint{address(20, i), 80}).c_str());
        found += judge(made, state).verdict == Verdict::hijacked ? 1U : 0U;
    }
    CHECK(found == many);
}
