// SPDX-License-Identifier: GPL-2.0-or-later
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "judge/words.hpp"
#include "output/output.hpp"
#include "output/sentences.hpp"

namespace hptrace {

namespace {

using Row = std::array<std::string, 4>;

Row conflict_row(const Conflict& conflict) {
    auto winner = std::string(to_string(conflict.winner));
    if (conflict.bypass) {
        winner = "harmless";  // whoever wins, an endpoint of the Service answers
    }
    const auto destination = fmt::format("{}/{} {}", destination_text(conflict.service),
                                         to_string(conflict.service.protocol), kind_and_name(conflict.service));
    return {winner, destination,
            owner_text(conflict.rule, conflict.rule_pod) + (conflict.leftover == LeftOver::yes ? " gone" : ""),
            conflict.rule.chain};
}

Row leaked_row(const LeakedRule& leaked) {
    const auto& rule = leaked.rule;
    const bool certain = leaked.leftover == LeftOver::yes;
    const auto address = rule.host_ip ? to_string(rule.host_ip->address) : "*";
    const auto destination =
        fmt::format("{}:{}/{} -> {}", address, rule.port.first, to_string(rule.protocol), to_string(rule.target.ip));
    return {certain ? "leaked" : "leaked?", destination,
            fmt::format("sandbox {} {}", rule.container_id.substr(0, 12), certain ? "gone" : "not known"), rule.chain};
}

}  // namespace

void print_audit(Writer& writer, const std::vector<Conflict>& conflicts, const std::vector<LeakedRule>& leaked) {
    std::vector<Row> rows{{"WINNER", "DESTINATION", "HOSTPORT OF", "RULE"}};
    std::vector<std::string> notes{""};
    for (const auto& conflict : conflicts) {
        rows.push_back(conflict_row(conflict));
        notes.push_back(conflict.depends_on.empty() ? "" : fmt::format("depends on {}", conflict.depends_on));
    }
    for (const auto& rule : leaked) {
        rows.push_back(leaked_row(rule));
        notes.push_back(advice_for(rule));
    }
    std::array<std::size_t, 3> widths{8, 20, 19};
    for (const auto& row : rows) {
        for (std::size_t i = 0; i < widths.size(); ++i) {
            widths.at(i) = std::max(widths.at(i), Line(row.at(i)).width());
        }
    }
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto& row = rows[i];
        Line line;
        std::size_t column = 0;
        for (std::size_t cell = 0; cell < row.size(); ++cell) {
            line.pad_to(column).add(row.at(cell));
            column += cell < widths.size() ? widths.at(cell) + 2 : 0;
        }
        writer.line(line);
        if (!notes[i].empty()) {
            writer.line(fmt::format("{:<{}}  {}", "", widths[0], notes[i]));
        }
    }
}

}  // namespace hptrace
