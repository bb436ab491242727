// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/options.hpp"

#include <catch2/catch_test_macros.hpp>

#include "temporary_folder.hpp"

using namespace hptrace;
using namespace std::chrono_literals;

namespace {

template <class Options>
Options parsed(std::vector<std::string> arguments) {
    const auto command = parse_command_line(std::move(arguments));
    INFO((command ? "" : describe(command.error())));
    REQUIRE(command);
    REQUIRE(std::holds_alternative<Options>(*command));
    return std::get<Options>(*command);
}

}  // namespace

TEST_CASE("audit takes a dump instead of this node") {
    CHECK_FALSE(parsed<AuditOptions>({"audit"}).from);
    CHECK(parsed<AuditOptions>({"audit", "--from", "node-2", "--json"}).from == "node-2");
    CHECK(parsed<AuditOptions>({"audit", "--from", ""}).from == "");  // never this node by mistake
    const auto both = parse_command_line({"audit", "--from", "node-2", "--netns", "1"});
    REQUIRE_FALSE(both);
    CHECK(describe(both.error()).find("--netns") != std::string::npos);
    CHECK_FALSE(parse_command_line({"trace", "--from", "node-2"}));
    CHECK(parsed<TraceOptions>({"--host-root", "/proc"}).host_root == "/proc");
    CHECK(parsed<AuditOptions>({"audit", "--host-root", "/proc"}).host_root == "/proc");
    CHECK_FALSE(parse_command_line({"--host-root", "/proc/version"}));  // no folder
}

TEST_CASE("trace and audit can ask the Kubernetes API, and say at once if that cannot be") {
    CHECK_FALSE(parsed<TraceOptions>({}).kube);
    CHECK_FALSE(parsed<AuditOptions>({"audit"}).kube);
    for (const auto& command : {"trace", "audit"}) {
        CHECK_FALSE(parse_command_line({command, "--kubeconfig", ""}));
        CHECK_FALSE(parse_command_line({command, "--kubeconfig", "/none"}));
        CHECK_FALSE(parse_command_line({command, "--kubeconfig"}));
        const TemporaryFolder folder;
        folder.write("config",
                     "current-context: a\ncontexts: [{name: a, context: {cluster: b}}]\n"
                     "clusters: [{name: b, cluster: {server: 'https://192.168.0.1:6443'}}]\n");
        const auto place = (folder.path() / "config").string();
        const auto read = parse_command_line({command, "--kubeconfig", place});
        REQUIRE(read);
        const auto server = [](const auto& options) { return options.kube ? options.kube->server : ""; };
        CHECK((std::holds_alternative<TraceOptions>(*read)
                   ? server(std::get<TraceOptions>(*read))
                   : server(std::get<AuditOptions>(*read))) == "https://192.168.0.1:6443");
    }
    CHECK_FALSE(parse_command_line({"doctor", "--kubeconfig", "in-cluster"}));
}

TEST_CASE("trace is what hptrace does") {
    const auto nothing = parsed<TraceOptions>({});
    CHECK(nothing.filter.ports.empty());
    CHECK_FALSE(nothing.json);
    CHECK_FALSE(nothing.existing);
    CHECK(nothing.probe == ProbeChoice::automatic);
    CHECK(parsed<TraceOptions>({"trace", "-p", "1"}).filter.ports == std::vector<PortRange>{{1, 1}});
}

TEST_CASE("every option of trace is understood") {
    const auto options = parsed<TraceOptions>({"--port",
                                               "3306,8000-8100",
                                               "-p",
                                               "80",
                                               "--proto",
                                               "tcp,UDP",
                                               "--dest",
                                               "10.96.0.0/12",
                                               "--source",
                                               "10.224.0.223",
                                               "-4",
                                               "--netns",
                                               "/run/netns/x",
                                               "--only",
                                               "hijacked,stale",
                                               "--only",
                                               "foreign",
                                               "--json",
                                               "--duration",
                                               "1.5",
                                               "--count",
                                               "3",
                                               "--probe",
                                               "kprobe",
                                               "--",
                                               "mysql",
                                               "-h",
                                               "10.96.0.10",
                                               "--json"});
    const std::vector<PortRange> ports{{3306, 3306}, {8000, 8100}, {80, 80}};
    CHECK(options.filter.ports == ports);
    CHECK(options.filter.protocols == std::vector{Protocol::tcp, Protocol::udp});
    CHECK(to_string(*options.filter.dest) == "10.96.0.0/12");
    CHECK(to_string(*options.filter.source) == "10.224.0.223/32");
    CHECK(options.filter.family == Family::ipv4);
    CHECK(options.netns == "/run/netns/x");
    CHECK(options.only == std::vector{Verdict::hijacked, Verdict::stale, Verdict::foreign});
    CHECK(options.json);
    CHECK(options.duration == 1500ms);
    CHECK(options.count == 3);
    CHECK(options.probe == ProbeChoice::kprobe);
    CHECK(options.command == std::vector<std::string>{"mysql", "-h", "10.96.0.10", "--json"});
}

TEST_CASE("metrics are served on an address and a port") {
    for (const std::string address : {"127.0.0.1:9755", "0.0.0.0:0", "[::1]:9755"}) {
        CHECK(parsed<TraceOptions>({"--metrics", address}).metrics == address);
    }
}

TEST_CASE("all namespaces are traced, one is audited") {
    CHECK_FALSE(parsed<TraceOptions>({}).all_netns);
    CHECK_FALSE(parsed<TraceOptions>({"--netns", "1"}).all_netns);
    const auto all = parsed<TraceOptions>({"--netns", "all"});
    CHECK(all.all_netns);
    CHECK(all.netns.empty());
    CHECK_FALSE(parsed<TraceOptions>({"--netns", "./all"}).all_netns);
}

TEST_CASE("audit and doctor have their own options") {
    const auto audit = parsed<AuditOptions>({"audit", "--json", "--strict", "-p", "80", "-6"});
    CHECK(audit.json);
    CHECK(audit.strict);
    CHECK(audit.filter.family == Family::ipv6);
    CHECK(parsed<DoctorOptions>({"doctor", "--json"}).json);
    CHECK_FALSE(parsed<DoctorOptions>({"doctor"}).json);
}

TEST_CASE("help has examples, the version is a version") {
    for (const auto* flag : {"--help", "-h"}) {
        const auto text = parsed<PrintText>({flag}).text;
        for (const auto* word :
             {"--port", "--only", "--existing", "hptrace audit", "hptrace doctor", "Examples:", "Exit status"}) {
            INFO(word);
            CHECK(text.find(word) != std::string::npos);
        }
    }
    CHECK(parsed<PrintText>({"audit", "--help"}).text.find("--strict") != std::string::npos);
    CHECK(parsed<PrintText>({"--version"}).text.starts_with("hptrace "));
}

TEST_CASE("bad input is one line that names it") {
    struct Case {
        std::vector<std::string> arguments;
        const char* word;
    };
    for (const auto& test : std::vector<Case>{
             {{"--port", "70000"}, "70000"},
             {{"--port", "0"}, "'0'"},
             {{"--port", "mysql"}, "mysql"},
             {{"--port", "200-100"}, "200-100"},
             {{"--port", "80,"}, "80,"},
             {{"--port", "-80"}, "port"},
             {{"--port", "80-"}, "80-"},
             {{"--port", "80-90-100"}, "80-90-100"},
             {{"--port", " 80"}, " 80"},
             {{"--port", ""}, "port"},
             {{"--port"}, "port"},
             {{"--dest", "10.0.0.0/33"}, "10.0.0.0/33"},
             {{"--dest", "fd00::/129"}, "fd00::/129"},
             {{"--source", "nonsense"}, "nonsense"},
             {{"--proto", "icmp"}, "icmp"},
             {{"--proto", "tcp,"}, "--proto"},
             {{"--probe", "magic"}, "magic"},
             {{"--count", "-1"}, "count"},
             {{"--count", "0"}, "count"},
             {{"--count", "99999999999999999999"}, "count"},
             {{"--repeat", "0", "--journald"}, "repeat"},
             {{"--repeat", "5"}, "journald"},
             {{"--ignore", "/nonexistent"}, "/nonexistent"},
             {{"--metrics", "9755"}, "9755"},
             {{"--metrics", "127.0.0.1:99999"}, "99999"},
             {{"--metrics", "localhost:9755"}, "localhost"},
             {{"--metrics", "::1:9755"}, "::1:9755"},
             {{"--metrics", "[127.0.0.1]:9755"}, "[127.0.0.1]"},
             {{"--duration", "0"}, "duration"},
             {{"--duration", "-1"}, "duration"},
             {{"--duration", "nan"}, "duration"},
             {{"--duration", "inf"}, "duration"},
             {{"--duration", "1e30"}, "duration"},
             {{"--duration", "5s"}, "5s"},
             {{"--only", "hijack"}, "hijack"},
             {{"--no-such-option"}, "--no-such-option"},
             {{"-4", "-6"}, "-6"},
             {{"-4", "--dest", "fd00::1"}, "fd00::1"},
             {{"-6", "--source", "10.0.0.1"}, "10.0.0.1"},
             {{"nonsense"}, "nonsense"},
             {{"--port", "80", "extra"}, "extra"},
             {{"--"}, "COMMAND"},
             {{"audit", "--", "true"}, "audit"},
             {{"audit", "--source", "10.0.0.1"}, "--source"},
             {{"audit", "--netns", "all"}, "--netns"},
             {{"doctor", "--port", "1"}, "--port"},
             {{"--existing", "--", "true"}, "--existing"},
         }) {
        const auto command = parse_command_line(test.arguments);
        INFO(test.word);
        REQUIRE_FALSE(command);
        const auto text = describe(command.error());
        CAPTURE(text);
        CHECK(text.find(test.word) != std::string::npos);
        CHECK(text.find('\n') == std::string::npos);
    }
}

TEST_CASE("more port ranges than the kernel side has room for are refused") {
    std::string ports = "1";
    for (int port = 2; port <= HPTRACE_FILTER_PORTS + 1; ++port) {
        ports += "," + std::to_string(port * 2);
    }
    CHECK_FALSE(parse_command_line({"--port", ports}));
}
