// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <ctime>

#include "output/samples.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

// Text output onto paper, in UTC.
struct Terminal {
    Paper paper;
    Writer writer{paper.fd()};
    std::unique_ptr<Output> output;

    explicit Terminal(bool colour = false, std::uint32_t netns = 0) {
        ::setenv("TZ", "UTC", 1);
        ::tzset();
        output = make_text_output(writer, {.colour = colour, .netns = netns, .clock_offset = fixed_offset});
    }
};

}  // namespace

TEST_CASE("the first screen is the one of the design") {
    Terminal terminal;
    auto& output = *terminal.output;
    output.begin({.node = "node-2",
                  .netns = 1,
                  .proxy = ProxyMode::ipvs,
                  .services = 1,
                  .hostports = 1,
                  .ports = {{3306, 3306}},
                  .unread_sources = {},
                  .unread_rules = 0});
    output.conflict(conflict(ipvs_node(Backend::iptables_nft)));
    output.tracing("fexit");
    auto first = hijack();
    first.connection.existing = true;
    output.connection(first);
    auto second = hijack();
    second.connection.boot_ns = 123'000'000;
    output.connection(second);
    auto plain = connection("192.168.0.2:3306", "10.224.0.222:3306");
    plain.client = end("192.168.0.50:40112");
    plain.boot_ns = 410'000'000;
    output.connection(finding(plain, ipvs_node(Backend::iptables_nft)));
    Summary summary;
    summary.seconds = 31.2;
    summary.verdicts.at(static_cast<std::size_t>(Verdict::hijacked)) = 2;
    summary.verdicts.at(static_cast<std::size_t>(Verdict::hostport)) = 1;
    summary.not_rewritten = 4;
    summary.one_packet = 12;
    summary.exit_status = 3;
    output.summary(summary);

    CHECK(terminal.paper.text() ==
          R"(node-2: kube-proxy ipvs; 1 Service and 1 HostPort on port 3306; all sources read
CONFLICT #1  10.96.0.10:3306/tcp (ClusterIP) is taken by hostPort 3306 of default/mysql-b-0
TIME          VERDICT   PROTO  CLIENT              ASKED FOR         GOT                NOTE
existing      HIJACKED  tcp    10.224.0.223:37266  10.96.0.10:3306   10.224.0.222:3306  #1
  should  10.224.0.224:3306
  rule    CNI-HOSTPORT-DNAT > CNI-DN-bd8e9ce301851b7745b41 (iptables-nft)
  why     10.96.0.10 is local (kube-ipvs0); kube-proxy's ACCEPT is in iptables-legacy and does not stop iptables-nft
  fix     remove hostPort 3306 from the workload owning default/mysql-b-0, then reconnect clients: open connections stay
  or      let kube-proxy and the CNI plugins use the same iptables back end, or give hostPort 3306 a hostIP
10:00:00.123  HIJACKED  tcp    10.224.0.223:37266  10.96.0.10:3306   10.224.0.222:3306  #1
10:00:00.410  hostport  tcp    192.168.0.50:40112  192.168.0.2:3306  10.224.0.222:3306
31s: 3 rewritten: 2 HIJACKED (#1), 1 hostport; 4 not rewritten; 12 packets scheduled singly by ip_vs; 0 lost. Exit 3
)");
}

TEST_CASE("of an attempt that was dropped and the one that got through it is said which is which") {
    Terminal terminal;
    auto attempt = hijack();
    attempt.connection.boot_ns = 0;
    attempt.connection.committed = false;
    terminal.output->connection(attempt);
    attempt.connection.boot_ns = 1'000'000'000;
    attempt.connection.committed = true;
    terminal.output->connection(attempt);
    auto plain = connection("192.168.0.2:3306", "10.224.0.222:3306");
    plain.committed = false;
    terminal.output->connection(finding(plain, ipvs_node(Backend::iptables_nft)));
    const auto text = terminal.paper.text();
    const auto ends_with = [&text](const std::string& begin, const std::string& end) {
        const auto line = text.find("\n" + begin);
        return line != std::string::npos && text.substr(0, text.find('\n', line + 1)).ends_with(end);
    };
    CHECK(ends_with("10:00:00.000  HIJACKED", "10.224.0.222:3306  #1 dropped"));
    CHECK(ends_with("10:00:01.000  HIJACKED", "10.224.0.222:3306  #1"));
    CHECK(ends_with("10:00:00.000  hostport", "10.224.0.222:3306  dropped"));
}

TEST_CASE("what was not read is said in the first line") {
    Terminal terminal;
    Beginning beginning;
    beginning.node = "n";
    beginning.services = 2;
    beginning.unread_sources = {"nf_tables (Operation not permitted)"};
    beginning.unread_rules = 1;
    terminal.output->begin(beginning);
    CHECK(
        terminal.paper.text() ==
        "n: no kube-proxy rules; 2 Services and 0 HostPorts; NOT read: nf_tables (Operation not permitted); 1 rule not "
        "understood\n");
}

TEST_CASE("IPv6 that does not fit gets lines of its own, chain names are never cut") {
    Terminal terminal;
    auto long_one = hijack();
    long_one.connection.client = end("[fd00:10:224:1111:2222:3333:4444:5555]:37266");
    long_one.connection.original = end("[fd00:10:96:1111:2222:3333:4444:5555]:3306");
    long_one.connection.rewritten = end("[fd00:10:224:1111:2222:3333:4444:6666]:3306");
    terminal.output->connection(long_one);
    const auto lines = terminal.paper.lines();
    REQUIRE(lines.size() > 5);
    CHECK(lines[1] == "10:00:00.000  HIJACKED  tcp    [fd00:10:224:1111:2222:3333:4444:5555]:37266             #1");
    CHECK(lines[2] == "                               for [fd00:10:96:1111:2222:3333:4444:5555]:3306");
    CHECK(lines[3] == "                               got [fd00:10:224:1111:2222:3333:4444:6666]:3306");
    for (std::size_t i = 0; i < 4; ++i) {
        CHECK(lines[i].size() <= 100);
    }
    CHECK(terminal.paper.text().find("CNI-DN-bd8e9ce301851b7745b41 (iptables-nft)") != std::string::npos);
}

TEST_CASE("the longest IPv4 row fits") {
    Terminal terminal;
    auto wide = hijack();
    wide.connection.client = end("255.255.255.255:65535");
    wide.connection.original = end("255.255.255.254:65535");
    wide.connection.rewritten = end("255.255.255.253:65535");
    terminal.output->connection(wide);
    CHECK(terminal.paper.lines().at(1) ==
          "10:00:00.000  HIJACKED  tcp    255.255.255.255:65535 255.255.255.254:65535 255.255.255.253:65535 #1");
}

TEST_CASE("each conflict has its own number and is explained once") {
    Terminal terminal;
    auto other = hijack();
    other.conflict_id = "c-other";
    for (const auto& shown : {hijack(), other, hijack(), other}) {
        terminal.output->connection(shown);
    }
    const auto text = terminal.paper.text();
    const auto count = [&](const std::string& part) {
        std::size_t found = 0;
        for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
            ++found;
        }
        return found;
    };
    CHECK(count("  #1\n") == 2);
    CHECK(count("  #2\n") == 2);
    CHECK(count("  fix ") == 2);
}

TEST_CASE("the same conflict in another namespace is another one, and said to be there") {
    Terminal terminal(false, 7);
    auto here = hijack();
    here.connection.netns = 7;
    auto there = here;
    there.connection.netns = 8;
    auto plain = finding(connection("192.168.0.2:3306", "10.224.0.222:3306"), ipvs_node(Backend::iptables_nft));
    plain.connection.netns = 8;
    terminal.output->begin({.node = "node-2", .netns = 7, .ports = {}, .unread_sources = {}});
    terminal.output->begin({.node = "node-2", .netns = 8, .ports = {}, .unread_sources = {}});
    auto predicted = conflict(ipvs_node(Backend::iptables_nft));
    predicted.netns = 8;
    terminal.output->conflict(predicted);
    for (const auto& shown : {here, there, here, there, plain}) {
        terminal.output->connection(shown);
    }
    const auto lines = terminal.paper.lines();
    CHECK(lines.at(0).starts_with("node-2: "));
    CHECK(lines.at(1).starts_with("node-2, network namespace 8: "));
    CHECK(lines.at(2).starts_with("CONFLICT #1"));
    const auto ends = [&lines](const std::string& end) {
        return std::ranges::count_if(lines, [&end](const std::string& line) { return line.ends_with(end); });
    };
    CHECK(ends("  #1 netns 8") == 2);
    CHECK(ends("  #2") == 2);
    CHECK(ends("  netns 8") == 1);
    CHECK(ends("(iptables-nft)") == 2);  // explained in each
}

TEST_CASE("alarms without a HostPort rule are explained too") {
    Terminal terminal;
    terminal.output->connection(
        finding(existing("10.96.0.10:3306", "10.9.9.9:3306"), ipvs_node(Backend::iptables_nft)));
    const auto text = terminal.paper.text();
    CHECK(text.find("STALE") != std::string::npos);
    CHECK(text.find("  should  10.224.0.224:3306") != std::string::npos);
    CHECK(text.find("  why     no current rule leads there") != std::string::npos);
    CHECK(text.find("  fix     reconnect the client") != std::string::npos);
}

TEST_CASE("a Service without endpoints should have answered nobody") {
    auto state = ipvs_node(Backend::iptables_nft);
    state.services[0].endpoints.clear();
    Terminal terminal;
    terminal.output->connection(finding(connection("10.96.0.10:3306", "10.224.0.222:3306"), state));
    CHECK(terminal.paper.text().find("should  nobody: the Service has no endpoints") != std::string::npos);
}

TEST_CASE("colour only where it is asked for") {
    Terminal plain;
    plain.output->connection(hijack());
    CHECK(plain.paper.text().find('\x1b') == std::string::npos);
    Terminal colourful(true);
    colourful.output->connection(hijack());
    CHECK(colourful.paper.text().find("\x1b[1;31mHIJACKED\x1b[0m  tcp") != std::string::npos);
}

TEST_CASE("names cannot command the terminal") {
    auto evil = hijack();
    evil.rule->chain = "CNI-DN-\x1b[2J";
    evil.rule_pod = Pod{"default", "\x1b]0;x"};
    evil.reason = "a\nb";
    Terminal terminal;
    terminal.output->connection(evil);
    CHECK(terminal.paper.text().find('\x1b') == std::string::npos);
    CHECK(terminal.paper.text().find("CNI-DN-\\x1b[2J") != std::string::npos);
    CHECK(terminal.paper.text().find("a\\x0ab") != std::string::npos);
}

TEST_CASE("conflicts are said as surely as they are known") {
    Terminal terminal;
    auto node_port = iptables_node(Backend::iptables_nft);
    node_port.hostports = {hostport(Backend::iptables_nft, 30306)};
    terminal.output->conflict(conflict(node_port));
    auto leaked = ipvs_node(Backend::iptables_nft);
    leaked.sandboxes.erase(leaked.sandboxes.begin());
    leaked.gone_sandboxes = {{mysql_b_id, 0}};
    leaked.boot_ns = 2 * longest_set_up_ns;
    terminal.output->conflict(conflict(leaked));
    leaked.gone_sandboxes.clear();
    terminal.output->conflict(conflict(leaked));
    const auto lines = terminal.paper.lines();
    REQUIRE(lines.size() == 4);
    CHECK(lines[0] ==
          "POSSIBLE #1  *:30306/tcp (NodePort default/mysql-a:mysql) may be taken by hostPort 30306 of "
          "default/mysql-b-0");
    CHECK(lines[1] ==
          "  depends on whose nat hook was registered last, that of iptables-nft or of iptables-legacy: the rules do "
          "not show "
          "it");
    CHECK(lines[2] ==
          "CONFLICT #2  10.96.0.10:3306/tcp (ClusterIP) is taken by a left over hostPort 3306 of sandbox bbbbbbbbbbbb");
    CHECK(lines[3] == "CONFLICT #2  10.96.0.10:3306/tcp (ClusterIP) is taken by hostPort 3306 of sandbox bbbbbbbbbbbb");
}

TEST_CASE("the audit table") {
    auto state = ipvs_node(Backend::iptables_nft);
    state.hostports.push_back(hostport(Backend::iptables_nft, 8126));
    state.hostports[1].chain = "CNI-DN-77aa0c5be1204d9f3b862";
    state.hostports[1].container_id = std::string(64, '4');
    state.hostports[1].target = end("10.224.0.9:8126");
    state.hostports.push_back(state.hostports[1]);
    state.hostports[2].chain = "CNI-DN-123c0c5be1204d9f3b862";
    state.hostports[2].container_id = std::string(64, '5');
    state.gone_sandboxes = {{std::string(64, '4'), 0}};
    state.boot_ns = 2 * longest_set_up_ns;
    state.index();
    auto conflicts = find_conflicts(state, {}).conflicts;
    add_names(conflicts.at(0), state);
    const Paper paper;
    Writer writer(paper.fd());
    print_audit(writer, conflicts, find_leaked(state, {}));
    CHECK(paper.text() ==
          R"(WINNER    DESTINATION                    HOSTPORT OF                     RULE
hostport  10.96.0.10:3306/tcp ClusterIP  default/mysql-b-0               CNI-DN-bd8e9ce301851b7745b41
leaked    *:8126/tcp -> 10.224.0.9       sandbox 444444444444 gone       CNI-DN-77aa0c5be1204d9f3b862
          remove it: iptables-nft -t nat -F CNI-DN-77aa0c5be1204d9f3b862
leaked?   *:8126/tcp -> 10.224.0.9       sandbox 555555555555 not known  CNI-DN-123c0c5be1204d9f3b862
          may be left over, or its pod is just being set up: check with crictl pods --id )" +
              std::string(64, '5') + "\n");

    conflicts.at(0).service.name = ServiceName{"default", "mysql-a", "mysql"};
    const Paper named;
    Writer to_named(named.fd());
    print_audit(to_named, conflicts, {});
    CHECK(named.lines().at(1).starts_with(
        "hostport  10.96.0.10:3306/tcp ClusterIP default/mysql-a:mysql  default/mysql-b-0"));
}

TEST_CASE("a summary of existing connections claims no more than it knows") {
    Terminal terminal;
    Summary summary;
    summary.verdicts.at(static_cast<std::size_t>(Verdict::ok)) = 1;
    summary.unread_sources = {"ip_vs (Operation not permitted)"};
    summary.exit_status = 4;
    terminal.output->summary(summary);
    CHECK(terminal.paper.text() ==
          "existing connections: 1 rewritten: 1 ok; 0 lost; not read: ip_vs (Operation not permitted). Exit 4\n");
}

TEST_CASE("the last line of an audit claims no more than is proven") {
    const auto last = [](const AuditSummary& summary) {
        Terminal terminal;
        terminal.output->audited(summary);
        return terminal.paper.text();
    };
    AuditSummary summary;
    CHECK(last(summary) == "no conflict between a Service and a HostPort rule\n");
    summary.doubts = {"nf_tables could not be read: nft.json is not in the dump", "ip_vs could not be read"};
    CHECK(last(summary) ==
          "Nothing is proven: nf_tables could not be read: nft.json is not in the dump; ip_vs could not be read\n");
    summary.served = 3;
    summary.harmless = 1;
    CHECK(last(summary).starts_with("Nothing is proven: "));
    summary.leaked = summary.possible = 1;
    CHECK(last(summary).starts_with("Nothing is proven: "));
    summary.taken = 1;
    summary.alarm = true;
    CHECK(last(summary).starts_with("There may be more: nf_tables could not be read"));
    summary.doubts.clear();
    CHECK(last(summary).empty());  // the table says it
}

TEST_CASE("a note on a connection that is ok is said once") {
    Terminal terminal;
    auto state = iptables_node(Backend::iptables_nft);
    auto made = existing("10.96.0.10:3306", "10.224.0.225:3306");
    made.tcp_state = TcpState::time_wait;
    terminal.output->connection(finding(made, state));
    terminal.output->connection(finding(made, state));
    const auto lines = terminal.paper.lines();
    REQUIRE(lines.size() == 4);
    CHECK(lines[1].starts_with("existing      ok        tcp"));
    CHECK(lines[2] == "  why     no current rule leads there, but the connection is closed");
}

TEST_CASE("a conflict that ends has the number it had; sources that cannot be read are said") {
    Terminal terminal;
    const auto known = conflict(ipvs_node(Backend::iptables_nft));
    terminal.output->conflict(known);
    terminal.output->conflict_ended(known);
    terminal.output->unread({"nf_tables (Operation not permitted)"});
    terminal.output->unread({});
    Summary summary;
    summary.suppressed = 2;
    terminal.output->summary(summary);
    const auto lines = terminal.paper.lines();
    REQUIRE(lines.size() == 5);
    CHECK(lines[1] ==
          "ENDED    #1  10.96.0.10:3306/tcp (ClusterIP) is no longer taken by hostPort 3306 of default/mysql-b-0");
    CHECK(lines[2] == "NOT READ nf_tables (Operation not permitted)");
    CHECK(lines[3] == "all sources are read again");
    CHECK(lines[4].find("; 2 accepted by --ignore; 0 lost") != std::string::npos);
}
