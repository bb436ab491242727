// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/accepted.hpp"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>

#include "base/excerpt.hpp"
#include "base/file.hpp"
#include "base/number.hpp"
#include "judge/words.hpp"

namespace hptrace {

namespace {

constexpr std::string_view blanks = " \t\r";
constexpr std::size_t most_of_file = 16UL * 1024 * 1024;

// Takes the first piece off, up to one of `ends`.
std::string_view take(std::string_view& text, std::string_view ends) {
    const auto end = std::min(text.find_first_of(ends), text.size());
    const auto piece = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return piece;
}

bool name_fits(const std::optional<std::string>& pattern, const std::optional<std::string>& name) {
    return !pattern || (name && ::fnmatch(pattern->c_str(), name->c_str(), 0) == 0);
}

std::optional<std::string> name_of(const std::optional<Pod>& pod) {
    // Whom a pod says it is must not hide an alarm.
    return pod && !pod->by_own_account ? std::optional(full_name(*pod)) : std::nullopt;
}

std::optional<std::string> name_of(const Service& service) {
    return service.name ? std::optional(full_name(*service.name)) : std::nullopt;
}

}  // namespace

Result<Accepted> Accepted::read(const std::string& file) {
    const auto text = read_file(file, most_of_file);
    if (!text) {
        return failure(fmt::format("--ignore {}: {}", file, describe(text.error())));
    }
    auto accepted = parse(*text);
    return accepted ? accepted
                    : failure(fmt::format("--ignore {}, {}", file, accepted.error().what), accepted.error().hint);
}

Result<Accepted> Accepted::parse(std::string_view text) {
    Accepted accepted;
    for (std::size_t number = 1; !text.empty(); ++number) {
        auto rest = take(text, "\n");
        const auto content = take(rest, "#");
        if (content.find_first_not_of(blanks) == std::string_view::npos) {
            continue;
        }
        auto line = parse_line(content);
        if (!line) {
            return failure(fmt::format("line {}: {}", number, line.error().what), line.error().hint);
        }
        accepted.lines_.push_back(*std::move(line));
    }
    return accepted;
}

Result<Accepted::Line> Accepted::parse_line(std::string_view text) {
    Line line;
    while (!text.empty()) {
        const auto word = take(text, blanks);
        if (word.empty()) {
            continue;
        }
        auto rest = word;
        const auto name = take(rest, "=");
        const std::string value(rest);
        bool good = !value.empty();
        if (name == "conflict") {
            line.conflict = value;
        } else if (name == "service") {
            line.service = value;
        } else if (name == "pod") {
            line.pod = value;
        } else if (name == "port") {
            line.port = parse_number<std::uint16_t>(value);
            good = line.port.has_value();
        } else if (name == "destination") {
            line.destination = parse_prefix(value);
            good = line.destination.has_value();
        } else {
            good = false;
        }
        if (!good) {
            return failure(fmt::format("bad '{}'", excerpt(word)),
                           "use conflict=, service=, pod=, port= or destination=");
        }
    }
    return line;
}

bool Accepted::covers(const Conflict& conflict) const {
    const auto& service = conflict.service;
    return covers(Subject{.conflict_id = conflict.conflict_id,
                          .service = name_of(service),
                          .pod = name_of(conflict.rule_pod),
                          .destination = service.ip,
                          .port = service.port});
}

bool Accepted::covers(const Finding& finding) const {
    if (lines_.empty() || !is_alarm(finding.verdict)) {
        return false;
    }
    return covers(Subject{.conflict_id = finding.conflict_id,
                          .service = finding.service ? name_of(*finding.service) : std::nullopt,
                          .pod = name_of(finding.rule_pod),
                          .destination = finding.connection.original.ip,
                          .port = finding.connection.original.port});
}

bool Accepted::covers(const Subject& subject) const {
    return std::ranges::any_of(lines_, [&](const Line& line) { return fits(line, subject); });
}

bool Accepted::fits(const Line& line, const Subject& subject) {
    return (!line.conflict || *line.conflict == subject.conflict_id) && name_fits(line.service, subject.service) &&
           name_fits(line.pod, subject.pod) && (!line.port || *line.port == subject.port) &&
           (!line.destination || (subject.destination && line.destination->contains(*subject.destination)));
}

}  // namespace hptrace
