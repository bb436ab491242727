// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.hpp"
#include "capture/capture.hpp"
#include "capture/filter.hpp"
#include "cli/accepted.hpp"
#include "judge/finding.hpp"
#include "names/kubeconfig.hpp"

namespace hptrace {

struct TraceOptions {
    Filter filter;
    std::string netns;       // path or process id; empty: the one hptrace runs in
    bool all_netns = false;  // --netns all
    std::filesystem::path host_root = "/";
    std::vector<Verdict> only;  // empty: every verdict is shown
    bool json = false;
    bool journald = false;
    std::chrono::nanoseconds repeat = std::chrono::seconds(60);  // --journald: one entry per conflict and so long
    std::string metrics;                                         // address and port to serve them on; empty: none
    Accepted accepted;
    std::optional<KubeConfig> kube;  // --kubeconfig
    bool existing = false;
    std::optional<std::chrono::nanoseconds> duration;
    std::optional<std::uint64_t> count;
    ProbeChoice probe = ProbeChoice::automatic;
    std::vector<std::string> command;  // after "--"
};

struct AuditOptions {
    Filter filter;
    std::string netns;
    std::filesystem::path host_root = "/";
    std::optional<std::string> from;  // folder of a dump; absent: this node as it is now
    bool json = false;
    bool strict = false;
    std::optional<KubeConfig> kube;
};

struct DoctorOptions {
    bool json = false;
};

// --help and --version.
struct PrintText {
    std::string text;
};

using Command = std::variant<TraceOptions, AuditOptions, DoctorOptions, PrintText>;

// The command line without the program's name. An error is a usage error: one line, without errno.
Result<Command> parse_command_line(std::vector<std::string> arguments);

// "3306,8000-8100"; port 0 does not exist.
Result<std::vector<PortRange>> parse_ports(std::string_view text);

// Seconds, fractions allowed; more than 0. `option`: whose value it is.
Result<std::chrono::nanoseconds> parse_duration(std::string_view option, std::string_view text);

}  // namespace hptrace
