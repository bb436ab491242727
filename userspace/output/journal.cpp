// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/journal.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <set>
#include <utility>

#include "judge/words.hpp"
#include "output/sentences.hpp"

namespace hptrace {

namespace {

using Priority = JournalEntry::Priority;

// More findings that differ than this are reported by their verdict only, and not remembered.
constexpr std::size_t most_findings = 1024;
// What an entry tells: something new, what an earlier run told already, or how often since.
enum class Told : std::uint8_t { first, before, again };

void add_endpoint(JournalEntry& entry, std::string_view what, const Endpoint& endpoint) {
    entry.add(fmt::format("HPTRACE_{}_IP", what), to_string(endpoint.ip));
    if (endpoint.port != 0) {
        entry.add(fmt::format("HPTRACE_{}_PORT", what), std::uint64_t{endpoint.port});
    }
}

void add_service(JournalEntry& entry, const Service& service) {
    entry.add("HPTRACE_SERVICE_KIND", to_string(service.kind));
    if (service.name) {
        entry.add("HPTRACE_SERVICE", full_name(*service.name));
    }
}

void add_rule(JournalEntry& entry, const HostPortRule& rule, const std::optional<Pod>& pod) {
    if (pod) {
        entry.add("HPTRACE_POD", full_name(*pod));
    }
    entry.add("HPTRACE_RULE_CHAIN", rule.chain);
    entry.add("HPTRACE_RULE_BACKEND", to_string(rule.backend));
    entry.add("HPTRACE_CONTAINER_ID", rule.container_id);
}

class JournalOutput final : public Output {
public:
    JournalOutput(JournalSocket& socket, Reported reported, JournalOptions options)
        : socket_(socket), reported_(std::move(reported)), options_(std::move(options)), before_(reported_.all()) {}

    void begin(const Beginning& beginning) override {
        if (!beginning_) {
            beginning_ = beginning;
        }
    }

    void tracing(std::string_view how) override {
        const auto& node = beginning_.value_or(Beginning{});
        const bool incomplete = !node.doubts.empty();
        auto text = fmt::format("Tracing connections ({}): {}; {} and {}", how, to_string(node.proxy),
                                counted(node.services, "Service"), counted(node.hostports, "HostPort"));
        if (!node.unread_sources.empty()) {
            text += fmt::format("; not read: {}", fmt::join(node.unread_sources, ", "));
        }
        if (node.unread_rules > 0) {
            text += fmt::format("; {} not understood", counted(node.unread_rules, "rule"));
        }
        socket_.send({incomplete ? Priority::warning : Priority::info, message_id::started, text});
        if (!incomplete) {
            forget_what_ended();
        }
    }

    void conflict(const Conflict& conflict) override {
        const auto what = key("conflict", conflict.netns, conflict.conflict_id);
        const bool before = remember(what);
        const auto* const verb = conflict.winner == Winner::depends ? "may be taken" : "is taken";
        auto text = fmt::format("{} {} by {}", wanted_text(conflict.service), verb, taker_text(conflict));
        if (!conflict.depends_on.empty()) {
            text += fmt::format(", depending on {}", conflict.depends_on);
        }
        JournalEntry entry(before ? Priority::notice : Priority::warning, message_id::conflict,
                           before ? text + " (reported before)" : text);
        describe_conflict(entry, conflict);
        mark(entry, before);
        entry.add("HPTRACE_WINNER", to_string(conflict.winner));
        add_reason(entry, conflict.reason_code, conflict.reason, advice_for(conflict));
        socket_.send(entry);
    }

    void conflict_ended(const Conflict& conflict) override {
        JournalEntry entry(
            Priority::notice, message_id::conflict_ended,
            fmt::format("{} is no longer taken by {}", wanted_text(conflict.service), taker_text(conflict)));
        describe_conflict(entry, conflict);
        const auto connections = key("connection", conflict.netns, conflict.conflict_id);
        if (const auto found = findings_.find(connections); found != findings_.end()) {
            say_repeats(found->second);
            findings_.erase(found);
        }
        socket_.send(entry);
        forget(connections);
        forget(key("conflict", conflict.netns, conflict.conflict_id));
    }

    void leaked(const LeakedRule& leaked) override {
        JournalEntry entry(Priority::notice, message_id::leaked,
                           fmt::format("{} {} left over: {}", rule_text(leaked.rule),
                                       leaked.leftover == LeftOver::yes ? "is" : "may be", advice_for(leaked)));
        add_rule(entry, leaked.rule, std::nullopt);
        socket_.send(entry);
    }

    // Nothing is allocated for one that is only counted, but for its key.
    void connection(const Finding& finding) override {
        if (!is_alarm(finding.verdict)) {
            return;
        }
        const auto& connection = finding.connection;
        auto what = key("connection", connection.netns,
                        finding.conflict_id.empty()
                            ? fmt::format("{} {} {}", to_string(finding.verdict), to_string(connection.original),
                                          to_string(connection.rewritten))
                            : finding.conflict_id);
        if (findings_.size() >= most_findings && !findings_.contains(what)) {
            what = to_string(finding.verdict);
        }
        const auto [found, first] = findings_.try_emplace(what);
        auto& known = found->second;
        if (!first) {
            ++known.more;
            known.finding.connection.client = connection.client;
            return;
        }
        known.finding = finding;
        known.since = options_.boot_ns();
        const bool before = remember(what);
        send_finding(finding, 1, before ? Told::before : Told::first,
                     fmt::format("{} asked for {} and got {}: {}", to_string(connection.client), asked_text(finding),
                                 to_string(connection.rewritten), verdict_text(finding)));
    }

    void lost(const Loss& loss) override {
        JournalEntry entry(Priority::warning, message_id::lost,
                           fmt::format("{} lost ({}): what was seen since then is not all",
                                       counted(loss.count, "record"), loss.where));
        entry.add("HPTRACE_COUNT", loss.count);
        entry.add("HPTRACE_WHERE", loss.where);
        socket_.send(entry);
    }

    void gap(const Gap& gap) override {
        const auto offset = options_.clock_offset();
        socket_.send(
            {Priority::notice, message_id::gap,
             fmt::format("Not traced from {} to {}: {}", utc_time(static_cast<std::int64_t>(gap.from_boot_ns) + offset),
                         utc_time(static_cast<std::int64_t>(gap.to_boot_ns) + offset), gap.why)});
    }

    void unread(const std::vector<std::string>& sources) override {
        socket_.send({sources.empty() ? Priority::notice : Priority::warning, message_id::unread,
                      sources.empty() ? std::string("All sources are read again")
                                      : fmt::format("Not read, what depends on it cannot be judged: {}",
                                                    fmt::join(sources, ", "))});
    }

    void summary(const Summary& summary) override {
        for (auto& [what, known] : findings_) {
            say_repeats(known);
        }
        std::string verdicts;
        for (std::size_t i = 0; i < summary.verdicts.size(); ++i) {
            if (summary.verdicts.at(i) > 0) {
                verdicts += fmt::format("{}{} {}", verdicts.empty() ? ": " : ", ", summary.verdicts.at(i),
                                        to_string(static_cast<Verdict>(i)));
            }
        }
        JournalEntry entry(
            Priority::info, message_id::stopped,
            fmt::format("Stopped after {:.0f} s: {} rewritten{}; {} lost; exit status {}", summary.seconds.value_or(0),
                        counted(summary.judged(), "connection"), verdicts, summary.lost, summary.exit_status));
        entry.add("HPTRACE_LOST", summary.lost);
        socket_.send(entry);
    }

    void turn(const Health&) override {
        socket_.flush();
        const auto now = options_.boot_ns();
        if (now < next_look_) {
            return;
        }
        next_look_ = now + look_interval_ns;
        for (auto& [what, known] : findings_) {
            if (now - known.since >= static_cast<std::uint64_t>(options_.repeat.count())) {
                say_repeats(known);
            }
        }
    }

private:
    struct Known {
        Finding finding;          // the first, with the client of the last
        std::uint64_t more = 0;   // connections that no entry tells of
        std::uint64_t since = 0;  // the last entry
    };

    static constexpr std::uint64_t look_interval_ns = 500'000'000;

    // The node's own namespace has another inode number after a reboot.
    [[nodiscard]] std::string key(std::string_view kind, std::uint32_t netns, std::string_view id) const {
        return other_netns(netns) ? fmt::format("{} {} {}", kind, netns, id) : fmt::format("{} {}", kind, id);
    }

    [[nodiscard]] bool other_netns(std::uint32_t netns) const { return netns != 0 && netns != options_.netns; }

    // Was it reported before this run?
    bool remember(const std::string& what) {
        if (reported_.all().size() < most_findings) {
            note_failure(reported_.add(what));
        }
        return before_.erase(what) > 0;
    }

    void forget(const std::string& what) { note_failure(reported_.remove(what)); }

    void note_failure(const std::optional<Error>& failure) {
        if (failure && !std::exchange(said_of_failure_, true)) {
            socket_.send({Priority::warning, message_id::unread,
                          fmt::format("Conflicts are reported as new again after a restart: {}", describe(*failure))});
        }
    }

    // Conflicts of an earlier run that are not there any more.
    void forget_what_ended() {
        constexpr std::string_view prefix = "conflict c-";
        for (const auto& what : std::exchange(before_, {})) {
            if (!what.starts_with(prefix)) {
                before_.insert(what);
                continue;
            }
            const auto id = what.substr(what.find(' ') + 1);
            JournalEntry entry(Priority::notice, message_id::conflict_ended,
                               fmt::format("Conflict {} ended while nothing was traced", id));
            entry.add("HPTRACE_CONFLICT_ID", id);
            socket_.send(entry);
            forget(what);
            forget("connection " + id);
        }
        std::erase_if(before_, [this](const std::string& what) { return !reported_.contains(what); });
    }

    static void mark(JournalEntry& entry, bool before) {
        if (before) {
            entry.add("HPTRACE_REPORTED_BEFORE", "1");
        }
    }

    static void add_reason(JournalEntry& entry, std::optional<ReasonCode> code, const std::string& reason,
                           const Advice& advice) {
        if (code) {
            entry.add("HPTRACE_REASON_CODE", to_string(*code));
        }
        entry.add("HPTRACE_REASON", reason);
        entry.add("HPTRACE_ADVICE", advice.text());
    }

    void describe_conflict(JournalEntry& entry, const Conflict& conflict) const {
        const auto& service = conflict.service;
        entry.add("HPTRACE_CONFLICT_ID", conflict.conflict_id);
        entry.add("HPTRACE_PROTOCOL", to_string(service.protocol));
        if (service.ip && service.kind != ServiceKind::node_port) {
            entry.add("HPTRACE_ORIGINAL_IP", to_string(*service.ip));
        }
        entry.add("HPTRACE_ORIGINAL_PORT", std::uint64_t{service.port});
        add_endpoint(entry, "REWRITTEN", conflict.rule.target);
        add_service(entry, service);
        add_rule(entry, conflict.rule, conflict.rule_pod);
        if (other_netns(conflict.netns)) {
            entry.add("HPTRACE_NETNS", std::uint64_t{conflict.netns});
        }
    }

    static std::string asked_text(const Finding& finding) {
        auto text =
            fmt::format("{}/{}", to_string(finding.connection.original), to_string(finding.connection.protocol));
        if (finding.service) {
            text += fmt::format(" ({})", kind_and_name(*finding.service));
        }
        return text;
    }

    static std::string verdict_text(const Finding& finding) {
        std::string text(to_string(finding.verdict));
        if (finding.verdict == Verdict::hijacked && finding.rule) {
            text += fmt::format(" by hostPort {} of {}, {}", finding.connection.original.port,
                                owner_text(*finding.rule, finding.rule_pod), rule_text(*finding.rule));
        } else if (!finding.reason.empty()) {
            text += fmt::format(", {}", finding.reason);
        }
        return text;
    }

    void say_repeats(Known& known) {
        if (known.more == 0) {
            return;
        }
        const auto now = options_.boot_ns();
        const auto& finding = known.finding;
        send_finding(finding, known.more, Told::again,
                     fmt::format("{} more in {} s asked for {} and got {}, the last one from {}: {}", known.more,
                                 (now - known.since) / 1'000'000'000, asked_text(finding),
                                 to_string(finding.connection.rewritten), to_string(finding.connection.client.ip),
                                 verdict_text(finding)));
        known.more = 0;
        known.since = now;
    }

    void send_finding(const Finding& finding, std::uint64_t count, Told told, std::string text) {
        const auto& connection = finding.connection;
        if (told == Told::before) {
            text += " (reported before)";
        }
        JournalEntry entry(told == Told::first ? Priority::warning : Priority::notice,
                           finding.verdict == Verdict::hijacked ? message_id::hijacked : message_id::rewritten, text);
        entry.add("HPTRACE_VERDICT", to_string(finding.verdict));
        entry.add("HPTRACE_COUNT", count);
        entry.add("HPTRACE_CONFLICT_ID", finding.conflict_id);
        entry.add("HPTRACE_PROTOCOL", to_string(connection.protocol));
        add_endpoint(entry, "CLIENT", connection.client);
        add_endpoint(entry, "ORIGINAL", connection.original);
        add_endpoint(entry, "REWRITTEN", connection.rewritten);
        if (finding.client_pod) {
            entry.add("HPTRACE_CLIENT_POD", full_name(*finding.client_pod));
        }
        if (finding.service) {
            add_service(entry, *finding.service);
        }
        if (finding.rule) {
            add_rule(entry, *finding.rule, finding.rule_pod);
        }
        if (other_netns(connection.netns)) {
            entry.add("HPTRACE_NETNS", std::uint64_t{connection.netns});
        }
        if (told != Told::again && !connection.existing) {
            entry.add("HPTRACE_TIME",
                      utc_time(static_cast<std::int64_t>(connection.boot_ns) + options_.clock_offset()));
        }
        mark(entry, told == Told::before);
        add_reason(entry, finding.reason_code, finding.reason, advice_for(finding));
        socket_.send(entry);
    }

    JournalSocket& socket_;
    Reported reported_;
    JournalOptions options_;
    std::set<std::string> before_;        // reported by an earlier run, not met yet
    std::optional<Beginning> beginning_;  // of the namespace hptrace is in: the first
    std::map<std::string, Known> findings_;
    std::uint64_t next_look_ = 0;
    bool said_of_failure_ = false;
};

}  // namespace

std::unique_ptr<Output> make_journal_output(JournalSocket& socket, Reported reported, JournalOptions options) {
    return std::make_unique<JournalOutput>(socket, std::move(reported), std::move(options));
}

}  // namespace hptrace
