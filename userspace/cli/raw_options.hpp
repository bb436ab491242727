// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hptrace {

// What the options say, before it is understood.
struct RawOptions {
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
    bool help = false;  // also when the rest is wrong: App::count()
    bool version = false;
    bool ipv4 = false;
    bool ipv6 = false;
    bool json = false;
    bool journald = false;
    bool existing = false;
    bool strict = false;
};

// What `command` (trace, audit, doctor) takes, with its help. --help and --version are flags like others, and what is
// no option is left over (App::remaining()): words that do not belong there come first (`hptrace mysql -h 10.96.0.10`).
void add_options(CLI::App& app, std::string_view command, RawOptions& raw);

}  // namespace hptrace
