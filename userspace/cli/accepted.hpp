// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "judge/finding.hpp"

namespace hptrace {

// Conflicts that somebody knows of and accepts (--ignore FILE). A line per kind of conflict, of words NAME=VALUE that
// all must fit; '#' begins a comment:
//   conflict=c-5f1e0a3b                         this one
//   port=3306 pod=default/mysql-b-*             what that pod's hostPort takes on that port
//   service=default/mysql-a                     what is taken from that Service
//   destination=10.96.0.0/16
// '*' in a name stands for any characters.
class Accepted {
public:
    Accepted() = default;  // nothing
    // An error names the line.
    static Result<Accepted> parse(std::string_view text);
    static Result<Accepted> read(const std::string& file);

    [[nodiscard]] bool covers(const Conflict& conflict) const;
    // Alarms only: everything else needs no acceptance.
    [[nodiscard]] bool covers(const Finding& finding) const;

private:
    struct Line {
        std::optional<std::string> conflict;
        std::optional<std::string> service;  // namespace/name
        std::optional<std::string> pod;      // namespace/name
        std::optional<Prefix> destination;
        std::optional<std::uint16_t> port;  // that was asked for
    };
    // What a line is held against.
    struct Subject {
        std::string_view conflict_id;
        std::optional<std::string> service;  // namespace/name
        std::optional<std::string> pod;
        std::optional<Address> destination;
        std::uint16_t port = 0;
    };

    static Result<Line> parse_line(std::string_view text);
    static bool fits(const Line& line, const Subject& subject);
    [[nodiscard]] bool covers(const Subject& subject) const;

    std::vector<Line> lines_;
};

}  // namespace hptrace
