// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <span>

#include "base/number.hpp"
#include "cli/raw_options.hpp"
#include "cli/stray_word.hpp"
#include "state/sources.hpp"

namespace hptrace {

namespace {

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

Result<Filter> make_filter(const RawOptions& raw) {
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

Result<std::optional<KubeConfig>> make_kube(const RawOptions& raw) {
    if (!raw.kubeconfig) {
        return std::nullopt;
    }
    return read_kubeconfig(*raw.kubeconfig);
}

Result<Command> make_trace(const RawOptions& raw, std::vector<std::string> command) {
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

Result<Command> make_audit(const RawOptions& raw) {
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

namespace {

// CLI11 takes them as a stack.
std::vector<std::string> reversed(std::span<const std::string> arguments) {
    return {arguments.rbegin(), arguments.rend()};
}

// Of these arguments, where the first one stands that is no option, known or not, and no value of one.
std::optional<std::size_t> find_stray_word(std::string_view command, std::span<const std::string> arguments) {
    for (std::size_t count = 1; count <= arguments.size(); ++count) {
        RawOptions raw;
        CLI::App app;
        add_options(app, command, raw);
        try {
            app.parse(reversed(arguments.first(count)));
        } catch (const CLI::ParseError&) {  // of the last option, whose value is missing so far
        }
        const auto extras = app.remaining();
        if (!extras.empty() && extras.front().starts_with('-')) {
            return std::nullopt;  // what follows can be its value
        }
        if (!extras.empty()) {
            return count - 1;
        }
    }
    return std::nullopt;
}

}  // namespace

Result<Command> parse_command_line(std::vector<std::string> arguments) {
    const auto all = arguments;
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
        if (std::ranges::find(command_names, name) == command_names.end()) {
            return std::unexpected(stray_word("trace", all, 0));
        }
        arguments.erase(arguments.begin());
    }
    if (const auto stray = find_stray_word(name, arguments)) {
        return std::unexpected(stray_word(name, all, *stray + (named ? 1 : 0)));
    }
    if (has_child && name != "trace") {
        return failure(fmt::format("hptrace {} takes no COMMAND", name));
    }

    RawOptions raw;
    CLI::App app("", named ? "hptrace " + name : "hptrace");
    add_options(app, name, raw);
    std::string problem;
    try {
        app.parse(reversed(arguments));
        if (const auto unknown = app.remaining(); !unknown.empty()) {
            problem = fmt::format("unknown option {}", unknown.front());
        }
    } catch (const CLI::ParseError& error) {
        problem = one_line(error.what());
    }
    if (app.count("--help") > 0) {
        return PrintText{app.help()};
    }
    if (app.count("--version") > 0) {
        return PrintText{"hptrace " HPTRACE_VERSION};
    }
    if (!problem.empty()) {
        return failure(problem, "see hptrace --help");
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
