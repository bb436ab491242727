// SPDX-License-Identifier: GPL-2.0-or-later
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <numeric>
#include <set>
#include <unordered_map>

#include "judge/words.hpp"
#include "output/output.hpp"
#include "output/sentences.hpp"

namespace hptrace {

namespace {

constexpr std::size_t line_width = 100;
// Where each column of the table begins.
constexpr std::array<std::size_t, 7> columns{0, 14, 24, 31, 51, 69, 88};
constexpr std::size_t client_column = 3;
constexpr std::size_t shown_endpoints = 4;

std::string upper(std::string_view text) {
    std::string result(text);
    std::ranges::transform(result, result.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    return result;
}

std::string verdict_word(Verdict verdict) {
    return is_alarm(verdict) ? upper(to_string(verdict)) : std::string(to_string(verdict));
}

std::string endpoints_text(const Finding& finding) {
    if (finding.expected.empty()) {
        return "nobody: the Service has no endpoints";
    }
    std::vector<std::string> shown;
    for (std::size_t i = 0; i < std::min(finding.expected.size(), shown_endpoints); ++i) {
        shown.push_back(to_string(finding.expected[i]));
    }
    auto text = fmt::format("{}", fmt::join(shown, ", "));
    if (finding.expected_total > shown.size()) {
        text += fmt::format(" and {} more", finding.expected_total - shown.size());
    }
    return text;
}

class TextOutput final : public Output {
public:
    TextOutput(Writer& writer, TextOptions options) : writer_(writer), options_(std::move(options)) {}

    void begin(const Beginning& beginning) override {
        const auto node =
            beginning.node.empty() ? "a node without a name" : beginning.node;  // a dump without meta.json
        auto text = fmt::format("{}{}: {}; {} and {}", node, in_netns(beginning.netns, ", network namespace "),
                                to_string(beginning.proxy), counted(beginning.services, "Service"),
                                counted(beginning.hostports, "HostPort"));
        if (!beginning.ports.empty()) {
            const bool one = beginning.ports.size() == 1 && beginning.ports[0].first == beginning.ports[0].last;
            text += fmt::format(" on {} {}", one ? "port" : "ports", to_string(beginning.ports));
        }
        if (!beginning.unread_sources.empty()) {
            text += fmt::format("; NOT read: {}", fmt::join(beginning.unread_sources, ", "));
        } else if (beginning.unread_rules == 0) {
            text += "; all sources read";
        }
        if (beginning.unread_rules > 0) {
            text += fmt::format("; {} not understood", counted(beginning.unread_rules, "rule"));
        }
        writer_.line(text);
    }

    void conflict(const Conflict& conflict) override {
        const auto number = number_of({conflict.netns, conflict.conflict_id});
        const auto what = wanted_text(conflict.service);
        const auto taker = taker_text(conflict);
        if (conflict.winner == Winner::hostport) {
            writer_.line(
                painted("CONFLICT", Paint::alarm).add(fmt::format(" #{}  {} is taken by {}", number, what, taker)));
        } else if (conflict.winner == Winner::depends) {
            writer_.line(
                painted("POSSIBLE", Paint::doubt).add(fmt::format(" #{}  {} may be taken by {}", number, what, taker)));
            writer_.line(fmt::format("  depends on {}", conflict.depends_on));
        }
    }

    void conflict_ended(const Conflict& conflict) override {
        writer_.line(fmt::format("ENDED    #{}  {} is no longer taken by {}",
                                 number_of({conflict.netns, conflict.conflict_id}), wanted_text(conflict.service),
                                 taker_text(conflict)));
    }

    void leaked(const LeakedRule& leaked) override {
        writer_.line(fmt::format("LEAKED  {}; {}", rule_text(leaked.rule), advice_for(leaked)));
    }

    void tracing(std::string_view) override { table_header(); }

    void connection(const Finding& finding) override {
        table_header();
        const auto& connection = finding.connection;
        const auto time = connection.existing
                              ? std::string("existing")
                              : local_time(static_cast<std::int64_t>(connection.boot_ns) + options_.clock_offset());
        bool first = false;
        const auto number = note_of(finding, first);
        const bool dropped = connection.committed == false;
        const auto note =
            fmt::format("{}{}{}", number, dropped && !number.empty() ? " " : "", dropped ? "dropped" : "");
        const auto netns = in_netns(connection.netns, note.empty() ? "netns " : " netns ");
        row(finding.verdict, line_width + netns.size(),
            {time, verdict_word(finding.verdict), std::string(to_string(connection.protocol)),
             to_string(connection.client), to_string(connection.original), to_string(connection.rewritten),
             note + netns});
        if (first) {
            details(finding);
        }
    }

    void lost(const Loss& loss) override {
        writer_.line(painted("LOST", Paint::alarm).add(fmt::format(" {} ({})", loss.count, loss.where)));
    }

    void gap(const Gap& gap) override {
        const auto offset = options_.clock_offset();
        writer_.line(
            painted("GAP", Paint::alarm)
                .add(fmt::format(" {} to {}: {}", local_time(static_cast<std::int64_t>(gap.from_boot_ns) + offset),
                                 local_time(static_cast<std::int64_t>(gap.to_boot_ns) + offset), gap.why)));
    }

    void unread(const std::vector<std::string>& sources) override {
        if (sources.empty()) {
            writer_.line("all sources are read again");
            return;
        }
        writer_.line(painted("NOT READ", Paint::doubt).add(fmt::format(" {}", fmt::join(sources, ", "))));
    }

    void summary(const Summary& summary) override {
        std::string text = summary.seconds ? fmt::format("{:.0f}s: ", *summary.seconds) : "existing connections: ";
        text += fmt::format("{} rewritten", summary.judged());
        const char* separator = ": ";
        // Worst first.
        for (const auto verdict :
             {Verdict::hijacked, Verdict::foreign, Verdict::stale, Verdict::unknown, Verdict::unsettled,
              Verdict::exposed, Verdict::bypassed, Verdict::proxied, Verdict::ok, Verdict::hostport, Verdict::other}) {
            const auto count = summary.verdicts.at(static_cast<std::size_t>(verdict));
            if (count > 0) {
                text += fmt::format("{}{} {}{}", separator, count, verdict_word(verdict), numbers_of(verdict));
                separator = ", ";
            }
        }
        if (summary.not_rewritten) {
            text += fmt::format("; {} not rewritten", *summary.not_rewritten);
        }
        if (summary.one_packet > 0) {
            text += fmt::format("; {} scheduled singly by ip_vs", counted(summary.one_packet, "packet"));
        }
        if (summary.suppressed > 0) {
            text += fmt::format("; {} accepted by --ignore", summary.suppressed);
        }
        text += fmt::format("; {} lost", summary.lost);
        if (!summary.unread_sources.empty()) {
            text += fmt::format("; not read: {}", fmt::join(summary.unread_sources, ", "));
        }
        if (summary.unread_rules > 0) {
            text += fmt::format("; {} not understood", counted(summary.unread_rules, "rule"));
        }
        writer_.line(fmt::format("{}. Exit {}", text, summary.exit_status));
    }

    void audited(const AuditSummary& summary) override {
        const auto why = fmt::format("{}", fmt::join(summary.doubts, "; "));
        const auto found = summary.taken + summary.possible + summary.served + summary.harmless + summary.leaked;
        if (!why.empty()) {
            writer_.line(painted(summary.alarm ? "There may be more" : "Nothing is proven", Paint::doubt)
                             .add(fmt::format(": {}", why)));
        } else if (found == 0) {
            writer_.line("no conflict between a Service and a HostPort rule");
        }
    }

private:
    // Namespace, and what is said of it: the same addresses mean something else in another one.
    using Key = std::pair<std::uint32_t, std::string>;

    [[nodiscard]] Line painted(std::string_view text, Paint paint) const {
        return Line().add(text, options_.colour ? paint : Paint::none);
    }

    void table_header() {
        if (!header_printed_) {
            header_printed_ = true;
            writer_.line(layout({"TIME", "VERDICT", "PROTO", "CLIENT", "ASKED FOR", "GOT", "NOTE"}, Paint::none));
        }
    }

    // Nothing for the namespace that hptrace is in.
    [[nodiscard]] std::string in_netns(std::uint32_t netns, std::string_view before) const {
        return options_.netns == 0 || netns == options_.netns ? std::string() : fmt::format("{}{}", before, netns);
    }

    std::size_t number_of(const Key& key) { return numbers_.try_emplace(key, numbers_.size() + 1).first->second; }

    // "#1" for what has details of its own. `first`: they were not shown yet.
    std::string note_of(const Finding& finding, bool& first) {
        if (!is_alarm(finding.verdict)) {
            // One detail line per reason, not per connection.
            const bool has_more =
                !finding.reason.empty() && (finding.verdict == Verdict::unknown || finding.verdict == Verdict::ok ||
                                            finding.verdict == Verdict::exposed || finding.verdict == Verdict::other);
            first = has_more && explained_.insert({finding.connection.netns, finding.reason}).second;
            return {};
        }
        const Key key{finding.connection.netns,
                      finding.conflict_id.empty()
                          ? fmt::format("{} {} {}", to_string(finding.verdict), to_string(finding.connection.original),
                                        to_string(finding.connection.rewritten))
                          : finding.conflict_id};
        const auto number = number_of(key);
        alarm_numbers_[static_cast<std::size_t>(finding.verdict)].insert(number);
        first = explained_.insert(key).second;
        return fmt::format("#{}", number);
    }

    [[nodiscard]] std::string numbers_of(Verdict verdict) const {
        const auto found = alarm_numbers_.find(static_cast<std::size_t>(verdict));
        if (found == alarm_numbers_.end()) {
            return {};
        }
        constexpr std::size_t most = 5;
        std::string text;
        for (const auto number : found->second) {
            if (text.size() > most * 4) {
                return fmt::format(" ({}, ...)", text);
            }
            text += fmt::format("{}#{}", text.empty() ? "" : ", ", number);
        }
        return fmt::format(" ({})", text);
    }

    void details(const Finding& finding) {
        const auto line = [this](std::string_view name, std::string_view text) {
            if (!text.empty()) {
                writer_.line(fmt::format("  {:<8}{}", name, text));
            }
        };
        if (is_alarm(finding.verdict)) {
            auto should = endpoints_text(finding);
            if (finding.service && finding.service->name) {
                should += fmt::format(" ({})", kind_and_name(*finding.service));
            }
            line("should", should);
        }
        if (finding.rule) {
            line("rule", rule_text(*finding.rule));
        }
        line("why", finding.reason);
        const auto advice = advice_for(finding);
        line("fix", advice.fix);
        line("or", advice.otherwise);
    }

    void row(Verdict verdict, std::size_t width, const std::array<std::string, 7>& cells) {
        const auto paint = is_alarm(verdict)                                              ? Paint::alarm
                           : verdict == Verdict::unknown || verdict == Verdict::unsettled ? Paint::doubt
                                                                                          : Paint::none;
        if (const auto line = layout(cells, paint); line.width() <= width) {
            writer_.line(line);
            return;
        }
        // Too long (IPv6): the destinations get lines of their own.
        writer_.line(layout({cells[0], cells[1], cells[2], cells[3], "", "", cells[6]}, paint));
        const std::string indent(columns[client_column], ' ');
        writer_.line(fmt::format("{}for {}", indent, cells[4]));
        writer_.line(fmt::format("{}got {}", indent, cells[5]));
    }

    // Cells at their columns; one that is too wide pushes the next only as far as it must. `paint`: of the verdict.
    [[nodiscard]] Line layout(const std::array<std::string, 7>& cells, Paint paint) const {
        Line line;
        for (std::size_t i = 0; i < cells.size(); ++i) {
            if (cells.at(i).empty()) {
                continue;
            }
            if (line.width() > 0) {
                line.pad_to(std::max(columns.at(i), line.width() + 1));
            }
            line.add(cells.at(i), i == 1 && options_.colour ? paint : Paint::none);
        }
        return line;
    }

    Writer& writer_;
    TextOptions options_;
    bool header_printed_ = false;
    std::map<Key, std::size_t> numbers_;                                    // of conflicts and other alarms
    std::set<Key> explained_;                                               // whose details were shown
    std::unordered_map<std::size_t, std::set<std::size_t>> alarm_numbers_;  // by verdict
};

}  // namespace

std::uint64_t Summary::judged() const {
    return std::accumulate(verdicts.begin(), verdicts.end(), std::uint64_t{0});
}

std::string to_string(const std::vector<PortRange>& ports) {
    std::string text;
    for (const auto& range : ports) {
        text += text.empty() ? "" : ",";
        text +=
            range.first == range.last ? fmt::format("{}", range.first) : fmt::format("{}-{}", range.first, range.last);
    }
    return text;
}

std::unique_ptr<Output> make_text_output(Writer& writer, TextOptions options) {
    return std::make_unique<TextOutput>(writer, std::move(options));
}

}  // namespace hptrace
