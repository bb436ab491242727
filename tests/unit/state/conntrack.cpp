// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/conntrack.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <sys/socket.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <functional>
#include <iterator>
#include <set>
#include <sstream>
#include <string_view>

#include "base/fd.hpp"
#include "fresh_netns.hpp"
#include "many_connections.hpp"
#include "messages.hpp"
#include "state/conntrack_dump.hpp"
#include "state/netns.hpp"

using namespace hptrace;

namespace {

Endpoint endpoint(std::string_view text) {
    return parse_endpoint(text).value();
}

const Connection* find(const std::vector<Connection>& connections, std::string_view original) {
    const auto found = std::ranges::find(connections, endpoint(original), &Connection::original);
    return found == connections.end() ? nullptr : &*found;
}

// The rewritten ones that conntrack knows in this namespace. pieces: how many there were to be had.
Result<std::vector<Connection>> all_connections(std::size_t* pieces) {
    auto dump = ConntrackDump::begin();
    if (!dump) {
        return std::unexpected(dump.error());
    }
    std::vector<Connection> all;
    for (std::size_t count = 0;; ++count) {
        auto found = dump->next();
        if (!found) {
            return std::unexpected(found.error());
        }
        if (!*found) {
            *pieces = count;
            return all;
        }
        std::ranges::move(**found, std::back_inserter(all));
    }
}

Result<std::vector<Connection>> all_connections() {
    std::size_t pieces = 0;
    return all_connections(&pieces);
}

sockaddr_in socket_address(std::string_view text) {
    const auto end = endpoint(text);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(end.port);
    std::copy_n(end.ip.bytes.begin(), 4, reinterpret_cast<std::uint8_t*>(&address.sin_addr));
    return address;
}

// A TCP connection to `destination`, as long as it is held.
Fd connect_to(std::string_view destination) {
    Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto address = socket_address(destination);
    if (::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        throw std::system_error(errno, std::generic_category(), "connect");
    }
    return client;
}

Fd listen_on(std::string_view where) {
    Fd server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto address = socket_address(where);
    if (::bind(server.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
        ::listen(server.get(), 5) != 0) {
        throw std::system_error(errno, std::generic_category(), "listen");
    }
    return server;
}

constexpr std::uint32_t seen_reply = IPS_SEEN_REPLY | IPS_CONFIRMED | IPS_ASSURED;

struct Seen {
    Result<std::vector<Connection>> connections;
    std::uint32_t netns;
};

void put_tuple(MessageBuilder& message, std::uint16_t type, std::uint32_t source, std::uint32_t destination,
               std::uint16_t source_port, std::uint16_t destination_port, std::uint8_t protocol) {
    message.nest(type | NLA_F_NESTED, [&](MessageBuilder& tuple) {
        tuple.nest(CTA_TUPLE_IP | NLA_F_NESTED, [&](MessageBuilder& ip) {
            ip.attribute(CTA_IP_V4_SRC, htonl(source)).attribute(CTA_IP_V4_DST, htonl(destination));
        });
        tuple.nest(CTA_TUPLE_PROTO | NLA_F_NESTED, [&](MessageBuilder& proto) {
            proto.attribute(CTA_PROTO_NUM, protocol);
            proto.attribute(CTA_PROTO_SRC_PORT, htons(source_port));
            proto.attribute(CTA_PROTO_DST_PORT, htons(destination_port));
        });
    });
}

MessageBuilder conntrack_message(std::uint32_t status, std::uint8_t protocol = IPPROTO_TCP) {
    MessageBuilder message(nfnl_type(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW), NLM_F_MULTI);
    message.extra(nfgenmsg{.nfgen_family = AF_INET, .version = 0, .res_id = 0});
    put_tuple(message, CTA_TUPLE_ORIG, 0x0ae000df, 0x0a60000a, 51120, 3306, protocol);
    put_tuple(message, CTA_TUPLE_REPLY, 0x0ae000de, 0x0ae000df, 3306, 51120, protocol);
    message.attribute(CTA_STATUS, htonl(status));
    message.attribute(CTA_ZONE, htons(7));
    return message;
}

// The same with a state of TCP.
MessageBuilder tcp_message(std::uint8_t state) {
    auto message = conntrack_message(seen_reply | IPS_DST_NAT);
    message.nest(CTA_PROTOINFO | NLA_F_NESTED, [&](MessageBuilder& info) {
        info.nest(CTA_PROTOINFO_TCP | NLA_F_NESTED,
                  [&](MessageBuilder& tcp) { tcp.attribute(CTA_PROTOINFO_TCP_STATE, state); });
    });
    return message;
}

ConntrackEntry entry(std::string_view to, std::string_view answered_by, std::optional<std::uint32_t> status) {
    return {.protocol = Protocol::tcp,
            .zone = 0,
            .original_source = endpoint("10.224.0.223:51120"),
            .original_destination = endpoint(to),
            .reply_source = endpoint(answered_by),
            .reply_destination = endpoint("10.224.0.223:51120"),
            .status = status};
}

}  // namespace

TEST_CASE("a connection that a real DNAT rule rewrote is found", "[conntrack]") {
    const auto seen = in_fresh_netns([] {
        run("ip link set lo up && ip addr add 10.96.0.10/32 dev lo");
        run("iptables-legacy -w -t nat -A OUTPUT -d 10.96.0.10 -p tcp --dport 3306 -j DNAT --to-destination "
            "127.0.0.2:13306");
        const auto server = listen_on("127.0.0.2:13306");
        const auto other_server = listen_on("127.0.0.3:80");
        const auto rewritten = connect_to("10.96.0.10:3306");
        const auto plain = connect_to("127.0.0.3:80");
        return Seen{.connections = all_connections(), .netns = current_netns_inode().value()};
    });
    REQUIRE(seen.connections);
    REQUIRE(seen.connections->size() == 1);
    const auto& connection = seen.connections->front();
    CHECK(connection.mechanism == Mechanism::nf_nat);
    CHECK(connection.protocol == Protocol::tcp);
    CHECK(connection.original == endpoint("10.96.0.10:3306"));
    CHECK(connection.rewritten == endpoint("127.0.0.2:13306"));
    CHECK(connection.reply_destination == connection.client);
    CHECK(connection.existing);
    CHECK(connection.committed == true);
    CHECK(connection.netns == seen.netns);
    CHECK(connection.boot_ns != 0);
}

TEST_CASE("every family, protocol and mechanism is told apart", "[conntrack]") {
    const auto connections = in_fresh_netns([] {
        constexpr std::string_view insert = "conntrack -I --timeout 600 ";
        const auto add = [&](std::string_view entry) { run(fmt::format("{} {} >/dev/null 2>&1", insert, entry)); };
        // ip_vs changes the reply tuple and leaves the NAT status alone
        add("-p tcp --state ESTABLISHED -s 10.224.0.1 -d 10.96.0.1 --sport 1001 --dport 80 "
            "-r 10.224.0.9 -q 10.224.0.1 --reply-port-src 8080 --reply-port-dst 1001");
        add("-p udp -s 10.224.0.1 -d 10.96.0.2 --sport 1002 --dport 53 --dst-nat 10.224.0.8:1053");
        add("-p sctp --state ESTABLISHED --orig-vtag 1 --reply-vtag 2 -s 10.224.0.1 -d 10.96.0.3 --sport 1003 --dport "
            "99 "
            "--dst-nat 10.224.0.7:99");
        add("-p tcp --state ESTABLISHED -s fd00:10::1 -d fd00:96::a --sport 1004 --dport 80 "
            "-r fd00:10::9 -q fd00:10::1 --reply-port-src 8080 --reply-port-dst 1004");
        // source NAT only, and nothing at all
        add("-p tcp --state ESTABLISHED -s 10.224.0.1 -d 10.96.0.5 --sport 1005 --dport 80 --src-nat 192.0.2.5");
        add("-p udp -s 10.224.0.1 -d 10.96.0.6 --sport 1006 --dport 53");
        add("-p tcp --state ESTABLISHED -w 7 -s 10.224.0.1 -d 10.96.0.8 --sport 1008 --dport 80 --dst-nat "
            "10.224.0.9:8080");
        return all_connections();
    });
    REQUIRE(connections);
    CHECK(connections->size() == 5);
    const auto* const by_ipvs = find(*connections, "10.96.0.1:80");
    REQUIRE(by_ipvs);
    CHECK(by_ipvs->mechanism == Mechanism::ip_vs);
    CHECK(by_ipvs->rewritten == endpoint("10.224.0.9:8080"));
    CHECK(by_ipvs->client == endpoint("10.224.0.1:1001"));
    const auto* const udp = find(*connections, "10.96.0.2:53");
    REQUIRE(udp);
    CHECK(udp->mechanism == Mechanism::nf_nat);
    CHECK(udp->protocol == Protocol::udp);
    CHECK(udp->rewritten == endpoint("10.224.0.8:1053"));
    const auto* const sctp = find(*connections, "10.96.0.3:99");
    REQUIRE(sctp);
    CHECK(sctp->protocol == Protocol::sctp);
    const auto* const ipv6 = find(*connections, "[fd00:96::a]:80");
    REQUIRE(ipv6);
    CHECK(ipv6->mechanism == Mechanism::ip_vs);
    CHECK(ipv6->rewritten == endpoint("[fd00:10::9]:8080"));
    const auto* const zoned = find(*connections, "10.96.0.8:80");
    REQUIRE(zoned);
    CHECK(zoned->zone == 7);
}

TEST_CASE("many connections come piece by piece, each once", "[conntrack]") {
    constexpr std::size_t many = 10'000;
    const auto seen = in_fresh_netns([] {
        make_connections(many);
        std::size_t pieces = 0;
        auto connections = all_connections(&pieces);
        return std::pair{std::move(connections), pieces};
    });
    REQUIRE(seen.first);
    CHECK(seen.first->size() == many);
    CHECK(seen.second > 1);
    std::set<std::uint16_t> ports;
    for (const auto& connection : *seen.first) {
        ports.insert(connection.client.port);
    }
    CHECK(ports.size() == many);
}

TEST_CASE("no connections is no error", "[conntrack]") {
    const auto connections = in_fresh_netns([] { return all_connections(); });
    REQUIRE(connections);
    CHECK(connections->empty());
}

TEST_CASE("IPS_DST_NAT tells nf_nat from ip_vs", "[conntrack]") {
    const auto mechanism = [](std::optional<std::uint32_t> status, const IpvsConnections& ipvs = {}) {
        return rewritten_connection(entry("10.96.0.10:3306", "10.224.0.222:3306", status), ipvs).value().mechanism;
    };
    CHECK(mechanism(seen_reply | IPS_DST_NAT | IPS_DST_NAT_DONE) == Mechanism::nf_nat);
    // A null binding sets DST_NAT_DONE alone; then ip_vs rewrote the reply tuple.
    CHECK(mechanism(seen_reply | IPS_DST_NAT_DONE) == Mechanism::ip_vs);
    CHECK(mechanism(std::nullopt) == Mechanism::nf_nat);
    CHECK(mechanism(std::nullopt, {{Protocol::tcp, endpoint("10.224.0.223:51120"), endpoint("10.96.0.10:3306")}}) ==
          Mechanism::ip_vs);
    CHECK(mechanism(std::nullopt, {{Protocol::udp, endpoint("10.224.0.223:51120"), endpoint("10.96.0.10:3306")}}) ==
          Mechanism::nf_nat);
    CHECK_FALSE(rewritten_connection(entry("10.96.0.10:80", "10.96.0.10:80", seen_reply | IPS_DST_NAT_DONE), {}));
    CHECK(rewritten_connection(entry("10.96.0.10:80", "10.96.0.10:8080", seen_reply | IPS_DST_NAT), {}));  // port only
}

TEST_CASE("conntrack messages are read, malformed ones are errors", "[conntrack]") {
    auto message = conntrack_message(seen_reply | IPS_DST_NAT);
    const auto parsed = parse_conntrack(message.message());
    REQUIRE(parsed);
    REQUIRE(*parsed);
    CHECK((*parsed)->original_source == endpoint("10.224.0.223:51120"));
    CHECK((*parsed)->original_destination == endpoint("10.96.0.10:3306"));
    CHECK((*parsed)->reply_source == endpoint("10.224.0.222:3306"));
    CHECK((*parsed)->status == (seen_reply | IPS_DST_NAT));
    CHECK((*parsed)->zone == 7);
    auto gre = conntrack_message(seen_reply, IPPROTO_GRE);
    CHECK(parse_conntrack(gre.message()).value() == std::nullopt);

    const auto whole = message.bytes().size();
    for (std::size_t cut = 1; cut < whole - sizeof(nlmsghdr); ++cut) {
        INFO(cut << " of " << whole << " bytes missing");
        auto truncated = conntrack_message(seen_reply | IPS_DST_NAT);
        const auto result = parse_conntrack(truncated.message(cut));
        // Cut behind the tuples it may pass, before never.
        CHECK((!result || !*result || (*result)->reply_destination == endpoint("10.224.0.223:51120")));
    }
}

TEST_CASE("the state of a TCP connection is known, as far as conntrack tells it", "[conntrack]") {
    static_assert(static_cast<int>(TcpState::time_wait) == TCP_CONNTRACK_TIME_WAIT);
    static_assert(static_cast<int>(TcpState::syn_sent2) == TCP_CONNTRACK_SYN_SENT2);
    for (std::uint8_t state = 0; state < tcp_state_names.size(); ++state) {
        auto message = tcp_message(state);
        CHECK(parse_conntrack(message.message()).value()->tcp_state == static_cast<TcpState>(state));
    }
    for (const auto unknown : {std::uint8_t{10}, std::uint8_t{255}}) {
        auto message = tcp_message(unknown);
        CHECK_FALSE(parse_conntrack(message.message()).value()->tcp_state);
    }
    auto none = conntrack_message(seen_reply | IPS_DST_NAT);
    CHECK_FALSE(parse_conntrack(none.message()).value()->tcp_state);
    CHECK_FALSE(parse_conntrack(none.message()).value()->began_ns);

    const auto connections = in_fresh_netns([] {
        const auto add = [](int port, std::string_view state) {
            run(
                fmt::format("conntrack -I --timeout 600 -p tcp --state {} -s 10.224.0.1 -d 10.96.0.{} --sport 1000 "
                            "--dport 80 --dst-nat 10.224.0.9:80 >/dev/null 2>&1",
                            state, port));
        };
        add(1, "ESTABLISHED");
        add(2, "TIME_WAIT");
        add(3, "CLOSE_WAIT");
        return all_connections();
    });
    REQUIRE(connections);
    const auto state_of = [&](std::string_view original) { return find(*connections, original)->tcp_state; };
    CHECK(state_of("10.96.0.1:80") == TcpState::established);
    CHECK(state_of("10.96.0.2:80") == TcpState::time_wait);
    CHECK(state_of("10.96.0.3:80") == TcpState::close_wait);
}

TEST_CASE("/proc/net/nf_conntrack tells the state of TCP", "[conntrack]") {
    const auto state_of = [](const std::string& beginning) {
        std::istringstream text(beginning +
                                "src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.3 dst=10.0.0.1 "
                                "sport=2 dport=1 mark=0 TIME_WAIT=1 zone=0 use=2\n");
        return parse_conntrack_text(text).value().at(0).tcp_state;
    };
    CHECK(state_of("ipv4     2 tcp      6 119 TIME_WAIT ") == TcpState::time_wait);
    CHECK(state_of("ipv4     2 tcp      6 431999 ESTABLISHED ") == TcpState::established);
    CHECK(state_of("ipv4     2 tcp      6 9 CLOSE ") == TcpState::close);
    CHECK(state_of("ipv4     2 tcp      6 SYN_SENT2 ") == TcpState::syn_sent2);  // offloaded: no timeout
    CHECK_FALSE(state_of("ipv4     2 tcp      6 "));
    CHECK_FALSE(state_of("ipv4     2 tcp      6 9 NEW_STATE "));
    CHECK_FALSE(state_of("ipv4     2 udp      17 29 "));
    CHECK_FALSE(state_of("ipv4     2 sctp     132 9 ESTABLISHED "));
}

TEST_CASE("a conntrack message whose attributes have other sizes is an error", "[conntrack]") {
    const auto message_with = [](const std::function<void(MessageBuilder&)>& fill) {
        MessageBuilder message(nfnl_type(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW), NLM_F_MULTI);
        message.extra(nfgenmsg{.nfgen_family = AF_INET, .version = 0, .res_id = 0});
        fill(message);
        return parse_conntrack(message.message());
    };
    const auto tuples = [](MessageBuilder& message) {
        put_tuple(message, CTA_TUPLE_ORIG, 1, 2, 3, 4, IPPROTO_TCP);
        put_tuple(message, CTA_TUPLE_REPLY, 2, 1, 4, 3, IPPROTO_TCP);
    };
    CHECK(message_with(tuples));
    CHECK_FALSE(message_with([&](MessageBuilder& message) {
        tuples(message);
        message.attribute(CTA_STATUS, std::uint16_t{0});
    }));
    CHECK_FALSE(message_with([&](MessageBuilder& message) {
        tuples(message);
        message.attribute(CTA_ZONE, std::uint8_t{0});
    }));
    CHECK_FALSE(message_with([](MessageBuilder& message) {
        for (const std::uint16_t direction : {CTA_TUPLE_ORIG, CTA_TUPLE_REPLY}) {
            message.nest(direction, [](MessageBuilder& tuple) {
                tuple.nest(CTA_TUPLE_IP, [](MessageBuilder& ip) {
                    ip.attribute(CTA_IP_V4_SRC, std::uint16_t{1}).attribute(CTA_IP_V4_DST, std::uint32_t{1});
                });
                tuple.nest(CTA_TUPLE_PROTO,
                           [](MessageBuilder& proto) { proto.attribute(CTA_PROTO_NUM, std::uint8_t{6}); });
            });
        }
    }));
    CHECK_FALSE(message_with([](MessageBuilder& message) {
        for (const std::uint16_t direction : {CTA_TUPLE_ORIG, CTA_TUPLE_REPLY}) {
            message.nest(direction, [](MessageBuilder& tuple) {
                tuple.nest(CTA_TUPLE_IP, [](MessageBuilder& ip) {
                    ip.attribute(CTA_IP_V4_SRC, std::uint32_t{1}).attribute(CTA_IP_V4_DST, std::uint32_t{1});
                });
                tuple.nest(CTA_TUPLE_PROTO,
                           [](MessageBuilder& proto) { proto.attribute(CTA_PROTO_NUM, std::uint32_t{6}); });
            });
        }
    }));
}

TEST_CASE("/proc/net/nf_conntrack is understood", "[conntrack]") {
    std::istringstream text(
        "ipv4     2 tcp      6 431999 ESTABLISHED src=10.224.0.223 dst=10.96.0.10 sport=51120 dport=3306 "
        "src=10.224.0.222 dst=10.224.0.223 sport=3306 dport=51120 [ASSURED] mark=0 zone=7 use=2\n"
        "ipv4     2 udp      17 29 src=10.224.0.1 dst=10.96.0.53 sport=999 dport=53 packets=1 bytes=70 [UNREPLIED] "
        "src=10.224.0.8 dst=10.224.0.1 sport=53 dport=999 packets=0 bytes=0 mark=0 use=2\n"
        "ipv4     2 icmp     1 29 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=5 src=10.0.0.2 dst=10.0.0.1 type=0 "
        "code=0 "
        "id=5 mark=0 use=2\n"
        "ipv4     2 unknown  2 580 src=10.0.0.1 dst=224.0.0.1 [UNREPLIED] src=224.0.0.1 dst=10.0.0.1 mark=0 use=2\n"
        "ipv6     10 tcp      6 300 ESTABLISHED src=fd00:0010:0000:0000:0000:0000:0000:0001 "
        "dst=fd00:0096:0000:0000:0000:0000:0000:000a sport=1004 dport=80 "
        "src=fd00:0010:0000:0000:0000:0000:0000:0009 dst=fd00:0010:0000:0000:0000:0000:0000:0001 sport=8080 "
        "dport=1004 "
        "[ASSURED] mark=0 use=2\n");
    const auto entries = parse_conntrack_text(text);
    REQUIRE(entries);
    REQUIRE(entries->size() == 3);
    CHECK((*entries)[0].original_destination == endpoint("10.96.0.10:3306"));
    CHECK((*entries)[0].reply_source == endpoint("10.224.0.222:3306"));
    CHECK((*entries)[0].zone == 7);
    CHECK_FALSE((*entries)[0].status);
    CHECK((*entries)[1].protocol == Protocol::udp);
    CHECK((*entries)[1].reply_source == endpoint("10.224.0.8:53"));
    CHECK((*entries)[2].reply_source == endpoint("[fd00:10::9]:8080"));
}

TEST_CASE("a cut /proc/net/nf_conntrack is an error", "[conntrack]") {
    for (const auto* const line :
         {"ipv4     2 tcp      6 431999 ESTABLISHED src=10.224.0.223 dst=10.96.0.10 sport=51120 dport=3306 "
          "src=10.224",
          "ipv4     2 tcp      6 431999 ESTABLISHED src=10.224.0.223 dst=10.96.0.10 sport=x dport=1 src=1.2.3.4 "
          "dst=1.2.3.4 sport=1 dport=99999",
          "nonsense", ""}) {
        INFO(line);
        std::istringstream text(std::string(line) + "\n");
        CHECK_FALSE(parse_conntrack_text(text));
    }
}

TEST_CASE("/proc/net/ip_vs_conn is understood", "[conntrack]") {
    std::istringstream text(
        "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n"
        "TCP 0AE000DF C7B0 0A60000A 0CEA 0AE000E0 0CEA ESTABLISHED     899\n"
        "UDP fd00:0010:0000:0000:0000:0000:0000:0001 03E7 fd00:0096:0000:0000:0000:0000:0000:000a 0035 "
        "fd00:0010:0000:0000:0000:0000:0000:0009 0035 UDP             299\n");
    const auto connections = parse_ipvs_connections(text);
    REQUIRE(connections);
    CHECK(connections->size() == 2);
    CHECK(connections->contains({Protocol::tcp, endpoint("10.224.0.223:51120"), endpoint("10.96.0.10:3306")}));
    CHECK(connections->contains({Protocol::udp, endpoint("[fd00:10::1]:999"), endpoint("[fd00:96::a]:53")}));
    std::istringstream broken("Pro FromIP\nTCP 0AE000DF C7B0 0A6\n");
    CHECK_FALSE(parse_ipvs_connections(broken));
}
