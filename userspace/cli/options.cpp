// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/number.hpp"
#include "state/sources.hpp"

namespace hptrace {

namespace {

constexpr const char* description =
    "Shows which connections to Kubernetes Services a hostPort takes over on this node, which rule does it, whose it\n"
    "is, why it wins and what to do. Reads the node without changing it. Needs root.\n";

constexpr const char* commands = R"(
Commands:
  hptrace [trace] [OPTIONS] [-- COMMAND ...]   connections as they are made (this page)
  hptrace audit [OPTIONS]                      conflicts that exist now, before any traffic
  hptrace doctor [OPTIONS]                     what this kernel offers, what is missing, what to do
)";

constexpr const char* footer = R"(
Examples:
  hptrace --port 3306                      follow connections to port 3306
  hptrace --port 3306 --only hijacked      show hijacked ones only
  hptrace --port 80,8000-8100 --proto tcp --json
  hptrace --journald                       for weeks: tell the journal what is wrong
  hptrace --existing                       judge the connections conntrack knows already, then stop
  hptrace -p 3306 -- mysql -h 10.96.0.10   trace while this command runs
  hptrace audit                            which Services a hostPort can take over
  hptrace audit --from DIR                 the same of another node, from what its tools printed

Verdicts: hijacked (a hostPort took a connection to a Service), stale, foreign, bypassed, proxied, exposed, hostport,
ok, other, unknown, unsettled.

Exit status: 3 a hijack (or a stale or foreign rewrite of a Service) was seen; 4 none was seen, but records were lost,
something could not be read, or there are no Services in this network namespace; 0 none; 2 usage; 1 anything else.
)";

std::vector<std::string_view> split(std::string_view text) {
    std::vector<std::string_view> parts;
    for (;;) {
        const auto comma = text.find(',');
        parts.push_back(text.substr(0, comma));
        if (comma == std::string_view::npos) {
            return parts;
        }
        text.remove_prefix(comma + 1);
    }
}

std::unexpected<Error> bad_value(std::string_view option, std::string_view value, std::string_view wanted) {
    return failure(fmt::format("bad {} '{}': {}", option, value, wanted));
}

constexpr std::string_view all_netns = "all";

// What the options say, before it is understood.
struct Raw {
    std::vector<std::string> ports;
    std::vector<std::string> protocols;
    std::vector<std::string> only;
    std::string dest;
    std::string source;
    std::string netns;
    std::string host_root;
    std::optional<std::string> from;
    std::string duration;
    std::string count;
    std::string repeat;
    std::string metrics;
    std::string ignore;
    std::optional<std::string> kubeconfig;
    std::string probe = "auto";
    bool ipv4 = false;
    bool ipv6 = false;
    bool json = false;
    bool journald = false;
    bool existing = false;
    bool strict = false;
};

void add_filter_options(CLI::App& app, Raw& raw) {
    app.add_option("-p,--port", raw.ports, "Original destination port: 3306, 80,443 or 8000-8100")
        ->type_name("PORTS")
        ->allow_extra_args(false);
    app.add_option("--proto", raw.protocols, "tcp, udp or sctp (a list is fine)")
        ->type_name("PROTO")
        ->allow_extra_args(false);
    app.add_option("--dest", raw.dest, "Original or rewritten destination address")->type_name("CIDR");
    auto* ipv4 = app.add_flag("-4", raw.ipv4, "IPv4 only");
    app.add_flag("-6", raw.ipv6, "IPv6 only")->excludes(ipv4);
    app.add_flag("--json", raw.json, "One JSON object per line");
}

void add_host_root(CLI::App& app, Raw& raw) {
    app.add_option("--host-root", raw.host_root,
                   "In a container: where the node's / is (default: /host if the node's CNI folder is there)")
        ->type_name("DIR");
}

void add_kube_option(CLI::App& app, Raw& raw) {
    app.add_option("--kubeconfig", raw.kubeconfig,
                   "Names of Services and pods from the Kubernetes API as well: with such a file, or with the account "
                   "of the pod hptrace runs in")
        ->type_name("FILE|in-cluster");
}

void add_trace_options(CLI::App& app, Raw& raw) {
    add_filter_options(app, raw);
    app.add_option("--netns", raw.netns,
                   "Network namespace of the node: a path or a process id (default: this one); all: every one")
        ->type_name("PATH|PID|all");
    add_host_root(app, raw);
    app.add_option("--source", raw.source, "Client address")->type_name("CIDR");
    app.add_option("--only", raw.only, "Show only these verdicts (a list is fine)")
        ->type_name("VERDICT")
        ->allow_extra_args(false);
    auto* journald = app.add_flag("--journald", raw.journald,
                                  "Report to systemd's journal what is wrong, instead of everything to stdout "
                                  "(with --json: as well)");
    app.add_option("--repeat", raw.repeat, "With --journald: how often to tell of a conflict again (60)")
        ->type_name("SECONDS")
        ->needs(journald);
    app.add_option("--metrics", raw.metrics, "Serve metrics for Prometheus there")->type_name("ADDR:PORT");
    app.add_option("--ignore", raw.ignore,
                   "Accepted conflicts, a line each: conflict=ID, or any of port= pod= service= destination=")
        ->type_name("FILE");
    add_kube_option(app, raw);
    app.add_flag("--existing", raw.existing, "Judge the connections that exist already, then stop");
    app.add_option("--duration", raw.duration, "Stop after this time")->type_name("SECONDS");
    app.add_option("--count", raw.count, "Stop after this many connections were shown")->type_name("N");
    app.add_option("--probe", raw.probe, "How to attach: auto, fexit or kprobe")->type_name("MODE");
}

Result<std::vector<Protocol>> parse_protocols(const std::vector<std::string>& lists) {
    std::vector<Protocol> protocols;
    for (const auto& list : lists) {
        for (const auto name : split(list)) {
            const auto protocol = parse_protocol(name);
            if (!protocol) {
                return bad_value("--proto", name, "use tcp, udp or sctp");
            }
            if (std::ranges::find(protocols, *protocol) == protocols.end()) {
                protocols.push_back(*protocol);
            }
        }
    }
    return protocols;
}

Result<std::optional<Prefix>> parse_cidr(std::string_view option, const std::string& text) {
    if (text.empty()) {
        return std::nullopt;
    }
    const auto prefix = parse_prefix(text);
    if (!prefix) {
        return bad_value(option, text, "use an address or ADDRESS/LENGTH, e.g. 10.96.0.0/12");
    }
    return prefix;
}

Result<Filter> make_filter(const Raw& raw) {
    Filter filter;
    for (const auto& list : raw.ports) {
        auto ports = parse_ports(list);
        if (!ports) {
            return std::unexpected(ports.error());
        }
        filter.ports.insert(filter.ports.end(), ports->begin(), ports->end());
    }
    auto protocols = parse_protocols(raw.protocols);
    if (!protocols) {
        return std::unexpected(protocols.error());
    }
    filter.protocols = std::move(*protocols);
    for (auto [option, text, member] :
         {std::tuple("--dest", &raw.dest, &filter.dest), std::tuple("--source", &raw.source, &filter.source)}) {
        auto prefix = parse_cidr(option, *text);
        if (!prefix) {
            return std::unexpected(prefix.error());
        }
        *member = *prefix;
    }
    if (raw.ipv4 || raw.ipv6) {
        filter.family = raw.ipv4 ? Family::ipv4 : Family::ipv6;
    }
    for (const auto& [option, prefix] : {std::pair("--dest", filter.dest), std::pair("--source", filter.source)}) {
        if (prefix && filter.family && prefix->address.family != *filter.family) {
            return failure(
                fmt::format("{} {} and -{} exclude each other", option, to_string(*prefix), raw.ipv4 ? 4 : 6));
        }
    }
    if (const auto record = to_record(filter); !record) {
        return failure(describe(record.error()));
    }
    return filter;
}

Result<std::vector<Verdict>> parse_verdicts(const std::vector<std::string>& lists) {
    std::vector<Verdict> verdicts;
    for (const auto& list : lists) {
        for (const auto name : split(list)) {
            const auto verdict = parse_verdict(name);
            if (!verdict) {
                return bad_value("--only", name, "it is no verdict (see --help)");
            }
            verdicts.push_back(*verdict);
        }
    }
    return verdicts;
}

Result<ProbeChoice> parse_probe(const std::string& text) {
    if (text == "auto") {
        return ProbeChoice::automatic;
    }
    if (text == "fexit") {
        return ProbeChoice::fexit;
    }
    if (text == "kprobe") {
        return ProbeChoice::kprobe;
    }
    return bad_value("--probe", text, "use auto, fexit or kprobe");
}

// "127.0.0.1:9755", "[::1]:9755".
bool is_address_and_port(std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos || !parse_number<std::uint16_t>(text.substr(colon + 1))) {
        return false;
    }
    auto address = text.substr(0, colon);
    const bool brackets = address.starts_with('[') && address.ends_with(']') && address.size() > 2;
    const auto parsed = parse_address(brackets ? address.substr(1, address.size() - 2) : address);
    return parsed && (parsed->family == Family::ipv6) == brackets;
}

Result<std::filesystem::path> parse_host_root(const std::string& text) {
    std::error_code error;
    if (text.empty()) {
        return detect_host_root();
    }
    if (!std::filesystem::is_directory(text, error)) {
        return bad_value("--host-root", text, "there is no such folder");
    }
    return text;
}

Result<std::optional<KubeConfig>> make_kube(const Raw& raw) {
    if (!raw.kubeconfig) {
        return std::nullopt;
    }
    return read_kubeconfig(*raw.kubeconfig);
}

Result<Command> make_trace(const Raw& raw, std::vector<std::string> command) {
    TraceOptions options;
    options.all_netns = raw.netns == all_netns;
    options.netns = options.all_netns ? "" : raw.netns;
    options.json = raw.json;
    options.journald = raw.journald;
    options.existing = raw.existing;
    options.command = std::move(command);
    auto filter = make_filter(raw);
    if (!filter) {
        return std::unexpected(filter.error());
    }
    options.filter = std::move(*filter);
    auto host_root = parse_host_root(raw.host_root);
    if (!host_root) {
        return std::unexpected(host_root.error());
    }
    options.host_root = *std::move(host_root);
    auto only = parse_verdicts(raw.only);
    if (!only) {
        return std::unexpected(only.error());
    }
    options.only = std::move(*only);
    auto probe = parse_probe(raw.probe);
    if (!probe) {
        return std::unexpected(probe.error());
    }
    options.probe = *probe;
    if (!raw.duration.empty()) {
        auto duration = parse_duration("--duration", raw.duration);
        if (!duration) {
            return std::unexpected(duration.error());
        }
        options.duration = *duration;
    }
    if (!raw.repeat.empty()) {
        auto repeat = parse_duration("--repeat", raw.repeat);
        if (!repeat) {
            return std::unexpected(repeat.error());
        }
        options.repeat = *repeat;
    }
    if (!raw.metrics.empty()) {
        if (!is_address_and_port(raw.metrics)) {
            return bad_value("--metrics", raw.metrics, "use ADDRESS:PORT, e.g. 127.0.0.1:9755 or [::1]:9755");
        }
        options.metrics = raw.metrics;
    }
    if (!raw.ignore.empty()) {
        auto accepted = Accepted::read(raw.ignore);
        if (!accepted) {
            return std::unexpected(accepted.error());
        }
        options.accepted = *std::move(accepted);
    }
    auto kube = make_kube(raw);
    if (!kube) {
        return std::unexpected(kube.error());
    }
    options.kube = *std::move(kube);
    if (!raw.count.empty()) {
        options.count = parse_number<std::uint64_t>(raw.count);
        if (!options.count || *options.count == 0) {
            return bad_value("--count", raw.count, "use a number of connections, 1 or more");
        }
    }
    if (options.existing && !options.command.empty()) {
        return failure("--existing and -- COMMAND exclude each other");
    }
    return options;
}

Result<Command> make_audit(const Raw& raw) {
    if (raw.netns == all_netns) {
        return bad_value("--netns", raw.netns, "audit reads one network namespace, use a path or a process id");
    }
    auto filter = make_filter(raw);
    if (!filter) {
        return std::unexpected(filter.error());
    }
    auto host_root = parse_host_root(raw.host_root);
    if (!host_root) {
        return std::unexpected(host_root.error());
    }
    auto kube = make_kube(raw);
    if (!kube) {
        return std::unexpected(kube.error());
    }
    return AuditOptions{.filter = std::move(*filter),
                        .netns = raw.netns,
                        .host_root = *std::move(host_root),
                        .from = raw.from,
                        .json = raw.json,
                        .strict = raw.strict,
                        .kube = *std::move(kube)};
}

// CLI11's own messages can have several lines and name no option for a missing value.
std::string one_line(std::string text) {
    std::ranges::replace(text, '\n', ' ');
    while (text.ends_with(' ')) {
        text.pop_back();
    }
    return text;
}

}  // namespace

Result<std::vector<PortRange>> parse_ports(std::string_view text) {
    std::vector<PortRange> ports;
    for (const auto part : split(text)) {
        const auto dash = part.find('-');
        const auto first = parse_number<std::uint16_t>(part.substr(0, dash));
        const auto last = dash == std::string_view::npos ? first : parse_number<std::uint16_t>(part.substr(dash + 1));
        if (!first || !last || *first == 0 || *first > *last) {
            return bad_value("--port", text, "use ports from 1 to 65535, e.g. 3306 or 80,8000-8100");
        }
        ports.push_back({*first, *last});
    }
    return ports;
}

Result<std::chrono::nanoseconds> parse_duration(std::string_view option, std::string_view text) {
    constexpr double most = 1e9;  // about 30 years, and far from overflow in nanoseconds
    const auto seconds = parse_number<double>(text);
    if (!seconds || !(*seconds > 0) || *seconds > most) {
        return bad_value(option, text, "use seconds, more than 0");
    }
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(*seconds));
}

Result<Command> parse_command_line(std::vector<std::string> arguments) {
    std::vector<std::string> child;
    const auto separator = std::ranges::find(arguments, "--");
    const bool has_child = separator != arguments.end();
    if (has_child) {
        child.assign(separator + 1, arguments.end());
        arguments.erase(separator, arguments.end());
        if (child.empty()) {
            return failure("no COMMAND after --");
        }
    }

    std::string name = "trace";
    const bool named = !arguments.empty() && !arguments.front().starts_with('-');
    if (named) {
        name = arguments.front();
        arguments.erase(arguments.begin());
    }
    if (name != "trace" && name != "audit" && name != "doctor") {
        return failure(fmt::format("unknown command '{}'", name), "trace, audit or doctor; see hptrace --help");
    }
    if (has_child && name != "trace") {
        return failure(fmt::format("hptrace {} takes no COMMAND", name));
    }

    Raw raw;
    CLI::App app(description, named ? "hptrace " + name : "hptrace");
    app.set_help_flag("-h,--help", "This text");
    app.set_version_flag("-V,--version", "hptrace " HPTRACE_VERSION);
    app.get_formatter()->column_width(24);
    if (name == "trace") {
        app.description(std::string(description) + commands);
        app.footer(footer);
        add_trace_options(app, raw);
    } else if (name == "audit") {
        add_filter_options(app, raw);
        app.add_option("--netns", raw.netns,
                       "Network namespace of the node: a path or a process id (default: this one)")
            ->type_name("PATH|PID");
        app.add_option("--from", raw.from, "Read a dump of a node instead of this one; needs no root")
            ->type_name("DIR")
            ->excludes(app.get_option("--netns"));
        add_host_root(app, raw);
        add_kube_option(app, raw);
        app.add_flag("--strict", raw.strict,
                     "Exit status 3 also for conflicts that depend on hook order, and leaked rules");
    } else {
        app.add_flag("--json", raw.json, "One JSON object per line");
    }

    try {
        std::ranges::reverse(arguments);  // CLI11 takes them as a stack
        app.parse(arguments);
    } catch (const CLI::CallForHelp&) {
        return PrintText{app.help()};
    } catch (const CLI::CallForVersion&) {
        return PrintText{"hptrace " HPTRACE_VERSION};
    } catch (const CLI::ParseError& error) {
        return failure(one_line(error.what()), "see hptrace --help");
    }

    if (name == "trace") {
        return make_trace(raw, std::move(child));
    }
    if (name == "audit") {
        return make_audit(raw);
    }
    return DoctorOptions{.json = raw.json};
}

}  // namespace hptrace
