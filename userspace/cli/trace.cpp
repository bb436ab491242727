// SPDX-License-Identifier: GPL-2.0-or-later
// hptrace trace: conflicts, connections that exist, then connections as they are made.
#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "capture/capture.hpp"
#include "cli/abilities.hpp"
#include "cli/child.hpp"
#include "cli/console.hpp"
#include "cli/existing.hpp"
#include "cli/kube.hpp"
#include "cli/loss_report.hpp"
#include "cli/overview.hpp"
#include "cli/probe_report.hpp"
#include "cli/run.hpp"
#include "cli/service_manager.hpp"
#include "cli/signals.hpp"
#include "cli/trace_outputs.hpp"
#include "cli/traced_netns.hpp"
#include "judge/doubts.hpp"
#include "judge/judge.hpp"
#include "names/names.hpp"
#include "output/output.hpp"
#include "state/netns.hpp"
#include "state/sources.hpp"

namespace hptrace {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto poll_interval = 50ms;
// So long a reader of existing connections may take nothing, while new ones wait in the ring.
constexpr auto longest_unread = 1000ms;

// What makes two records the same connection.
using Key = std::tuple<std::uint32_t, std::uint16_t, Protocol, Endpoint, Endpoint>;

Key key_of(const Connection& connection) {
    return {connection.netns, connection.zone, connection.protocol, connection.client, connection.original};
}

class Trace {
public:
    // capture: null for --existing. netns: where --netns took hptrace. kube: null without --kubeconfig.
    Trace(const TraceOptions& options, Filter filter, Capture* capture, Signals& signals, Console& console,
          std::optional<NetnsGuard> netns, const MetricsServer* metrics, KubeNames* kube, std::vector<int> inherited)
        : options_(options),
          filter_(std::move(filter)),
          capture_(capture),
          signals_(signals),
          console_(console),
          netns_(std::move(netns)),
          kube_(kube),
          inherited_(std::move(inherited)),
          namespaces_(
              netns_pid(options.netns), options.host_root,
              {.now =
                   [capture](std::uint32_t inode) {
                       return capture != nullptr ? capture->changes(inode) : hptrace_changes{};
                   },
               .tracked = [capture] { return capture != nullptr ? capture->tracked_sources() : 0U; },
               .incomplete = [capture] { return capture != nullptr && capture->misses_changes(); }},
              [this](const NodeState& state) {
                  incomplete_ = incomplete_ || !doubts(state, filter_).empty();
                  ++reads_;
                  read_ns_ = boot_clock_ns();
              },
              kube == nullptr ? ClusterNamesSource() : [kube] { return kube->names(); }),
          state_(namespaces_.here().history().refresh().state),
          outputs_(options, *state_, metrics, console.out()) {}

    int run() {
        signals_.on_stop(Signals::Stop::handed_over);
        begin();
        judge_existing([](const Connection&) { return true; });
        if (capture_ != nullptr) {
            follow();
        }
        return end();
    }

private:
    void begin() {
        static_cast<void>(namespaces_.here().introduce());
        introduce(namespaces_.here());
        if (!options_.all_netns) {
            std::ranges::for_each(nothing_to_see(*state_, filter_), note_);
        }
        const auto mode = capture_ == nullptr                   ? "existing connections"
                          : capture_->mode() == ProbeMode::none ? "nothing yet"
                                                                : to_string(capture_->mode());
        if (capture_ != nullptr) {
            incomplete_ = !probe_report_.say(*capture_, note_) || incomplete_;
            tell_probes();
            note(fmt::format("tracing ({})", mode));
        }
        unread_ = namespaces_.unread().sources;
        started_ = Clock::now();
        outputs_.tell(&Output::tracing, mode);
        manager_.ready(fmt::format("tracing ({})", mode));
    }

    // What a namespace is like, and the conflicts in it.
    void introduce(TracedNetns& netns) {
        const auto state = netns.history().newest().state;
        outputs_.tell(&Output::begin, overview(*state, filter_));
        std::ranges::for_each(not_understood(*state), note_);
        static_cast<void>(netns.news());
        compare_conflicts(netns, *state, netns.history().newest().boot_ns,
                          {.pod = false, .service = kube_pending(netns)});
    }

    // The API, which names what is in this namespace, has had no time yet to be listed. (It names nothing elsewhere.)
    [[nodiscard]] bool kube_pending(const TracedNetns& netns) {
        return kube_ != nullptr && &netns == &namespaces_.here() && !kube_->wait_for_first_list(0ms);
    }

    // What came or went since the last time.
    void compare_conflicts(TracedNetns& netns, const NodeState& state, std::uint64_t read_ns,
                           ConflictWatch::ToCome to_come) {
        auto conflicts = find_conflicts(state, filter_);
        const auto cluster = netns.cluster();
        for (auto& conflict : conflicts) {
            add_names(conflict, state, cluster.get());
        }
        const auto [appeared, ended] = netns.conflicts().update(conflicts, state, read_ns, to_come);
        tell_conflicts(&Output::conflict, appeared);
        tell_conflicts(&Output::conflict_ended, ended);
    }

    void tell_conflicts(void (Output::*what)(const Conflict&), const std::vector<Conflict>& conflicts) {
        for (const auto& conflict : conflicts) {
            if (!options_.accepted.covers(conflict)) {
                outputs_.tell(what, conflict);
            }
        }
    }

    void follow_state() {
        bool news = false;
        namespaces_.each([&](TracedNetns& netns) {
            if (!netns.introduced()) {
                return;
            }
            const bool again = netns.conflicts().waiting() && netns.history().may_refresh();
            if (again) {
                netns.history().refresh();
            }
            const auto state = netns.news();
            if (const auto& read = netns.history().newest(); state || (again && read.consistent())) {
                compare_conflicts(netns, *read.state, read.boot_ns, {.pod = true, .service = kube_pending(netns)});
                news = true;
            }
        });
        if (!news) {
            return;
        }
        if (auto unread = namespaces_.unread().sources; unread != unread_) {
            unread_ = std::move(unread);
            outputs_.tell(&Output::unread, unread_);
        }
    }

    // Of those that conntrack knows, what `wanted` and the filter take and was not judged before.
    void judge_existing(const std::function<bool(const Connection&)>& wanted) {
        const auto existing = read_existing();
        existing_end_ = boot_clock_ns();
        // What was made since the probes are attached was seen being made, though conntrack has it as well.
        auto live = seen_until(existing_end_);
        std::set<Key> seen;
        for (const auto& connection : live) {
            seen.insert(key_of(connection));
        }
        for (const auto& connection : existing) {
            if (matches(filter_, connection) && wanted(connection) && !seen.contains(key_of(connection)) &&
                existing_.insert(key_of(connection)).second) {
                namespaces_.of(connection.netns).judge().take(connection);
            }
        }
        namespaces_.finish([this](const Finding& finding) {
            if (!done()) {
                show(finding);
            }
        });
        // Also when the time is over: what was decided before belongs to it.
        for (auto& connection : live) {
            take(std::move(connection));
        }
    }

    // A subsystem that was loaded meanwhile: what it did before the probes were attached is in conntrack.
    void follow_modules() {
        if (!modules_followed_) {
            return;
        }
        const auto changes = capture_->follow_modules();
        if (!changes) {
            modules_followed_ = false;
            incomplete_ = true;
            note(fmt::format("modules that are loaded from now on are not traced: {}", describe(changes.error())));
            return;
        }
        if (!changes->empty()) {
            tell_probes();
        }
        for (const auto& change : *changes) {
            if (change.loaded) {
                incomplete_ = !probe_report_.say(*capture_, note_) || incomplete_;
            }
            if (!change.decides) {
                continue;
            }
            if (!change.loaded) {
                note(fmt::format("{} was unloaded: it rewrites nothing now", change.subsystem));
                continue;
            }
            outputs_.tell(&Output::gap, Gap{.from_boot_ns = change.from_boot_ns,
                                            .to_boot_ns = change.to_boot_ns,
                                            .why = fmt::format("{} was loaded", change.subsystem)});
            // What exists is judged by a state from before it was read and one from after that.
            namespaces_.here().history().refresh();
            const auto mechanism = change.subsystem == "ip_vs" ? Mechanism::ip_vs : Mechanism::nf_nat;
            judge_existing([mechanism](const Connection& connection) { return connection.mechanism == mechanism; });
        }
    }

    void tell_probes() {
        std::vector<ProbedFunction> functions;
        for (const auto& probe : capture_->probes()) {
            functions.push_back({probe.function, std::string(to_string(probe.mode))});
        }
        outputs_.tell(&Output::probes, functions);
    }

    std::vector<Connection> read_existing() {
        auto existing = read_existing_here();
        if (options_.all_netns) {
            // They are judged by a state from before they were read and one from after that.
            auto more = read_existing_elsewhere(
                state_->netns, [this](const Connection& connection) { return matches(filter_, connection); },
                [this](const NetnsPlace& place) { namespaces_.of(place.inode).history().refresh(); });
            std::ranges::move(more.connections, std::back_inserter(existing.connections));
            std::ranges::move(more.problems, std::back_inserter(existing.problems));
        }
        incomplete_ = incomplete_ || !existing.problems.empty();
        std::ranges::for_each(existing.problems, note_);
        return std::move(existing.connections);
    }

    // All connections decided up to then. Waits as long as one of them waits for its commit.
    std::vector<Connection> seen_until(std::uint64_t boot_ns) {
        std::vector<Connection> live;
        if (capture_ == nullptr) {
            return live;
        }
        const auto sink = [&live](Connection&& connection) { live.push_back(std::move(connection)); };
        do {
            if (auto result = capture_->poll(10ms, sink); !result) {
                error_ = result.error();
                break;
            }
        } while (!capture_->handed_over(boot_ns));
        return live;
    }

    void follow() {
        const auto sink = [this](Connection&& connection) { take(std::move(connection)); };
        namespaces_.finish(show_);  // before the command can change anything
        if (!options_.command.empty() && !start_command()) {
            return;
        }
        while (!done() && !error_) {
            wait();
            if (auto result = capture_->poll(0ms, sink); !result) {
                error_ = result.error();
                break;
            }
            namespaces_.judge(show_);
            tell_conflicts(&Output::conflict_ended, namespaces_.forget_gone());
            follow_modules();
            follow_state();
            report_names();
            handle_signals();
            loss_report_.tell([this] { return capture_->counters(); }, outputs_, false);
            outputs_.tell(&Output::turn, Health{.state_reads = reads_, .state_age_ns = boot_clock_ns() - read_ns_});
            manager_.turn();
            if (options_.json || !options_.journald) {  // else nothing is written there
                outputs_.writer().check_reader();
            }
        }
        namespaces_.each([this](TracedNetns& netns) {
            if (!netns.conflicts().waiting()) {
                return;
            }
            // Those that wait for a name wait no longer.
            if (const auto& read = netns.history().last(); read.consistent()) {
                compare_conflicts(netns, *read.state, read.boot_ns, {});
            }
        });
        // What was decided before the end belongs to it. SIGCHLD can overtake the last records.
        for (const auto& last : {capture_->poll(poll_interval, sink), capture_->drain(sink)}) {
            if (!last) {
                error_ = last.error();
            }
        }
        if (!enough()) {
            namespaces_.finish(show_);
        }
    }

    // Until there is something to do; never longer than the interval, for records that make no noise.
    void wait() {
        auto timeout = poll_interval;
        if (options_.duration) {
            const auto left = started_ + *options_.duration - Clock::now();
            timeout = std::clamp(std::chrono::ceil<std::chrono::milliseconds>(left), 0ms, timeout);
        }
        std::array<pollfd, 2> wait_for{{{.fd = capture_->descriptor(), .events = POLLIN, .revents = 0},
                                        {.fd = signals_.descriptor(), .events = POLLIN, .revents = 0}}};
        static_cast<void>(::poll(wait_for.data(), wait_for.size(), static_cast<int>(timeout.count())));
    }

    [[nodiscard]] bool done() const {
        return stopped_ || enough() || (options_.duration && Clock::now() - started_ >= *options_.duration);
    }

    // Nothing more can or should be shown.
    [[nodiscard]] bool enough() const {
        return !outputs_.writer().ok() || (options_.count && shown_ >= *options_.count);
    }

    // The command is the user's: it belongs where the user is, not where --netns took hptrace.
    bool start_command() {
        const bool moved = netns_.has_value();
        netns_.reset();
        auto child = Child::start(options_.command, inherited_);
        if (!child) {
            error_ = child.error();
            return false;
        }
        child_ = *child;
        if (moved) {
            auto back = NetnsGuard::enter(options_.netns);
            if (!back) {
                error_ = back.error();
                return false;
            }
            netns_.emplace(*std::move(back));
        }
        return true;
    }

    void handle_signals() {
        while (const auto number = signals_.next()) {
            if (*number == SIGCHLD) {
                if (const auto how = child_ ? child_->ended() : std::nullopt) {
                    note(fmt::format("{} {}", options_.command.front(), *how));
                    child_.reset();
                    stopped_ = true;
                }
            } else {
                stopped_ = interrupted_ = true;
            }
        }
    }

    // For what waits elsewhere than in wait().
    bool interrupted() {
        handle_signals();
        return interrupted_;
    }

    // Not the free function, which waits for who reads stderr.
    void note(std::string_view text) { console_.note(text); }

    void take(Connection connection) {
        // It was in conntrack already when that was read.
        if (connection.boot_ns <= existing_end_ && existing_.contains(key_of(connection))) {
            return;
        }
        auto& judge = namespaces_.of(connection.netns).judge();
        judge.take(std::move(connection));
    }

    // A signal and the time limit end the waiting: what was decided before is judged and shown all the same.
    void show(const Finding& finding) {
        if (enough()) {
            return;
        }
        // Others than this one are read when they are needed.
        if (auto& netns = namespaces_.of(finding.connection.netns); netns.introduce()) {
            introduce(netns);
        }
        ++verdicts_.at(static_cast<std::size_t>(finding.verdict));
        outputs_.tell(&Output::judged, finding);
        if (options_.accepted.covers(finding)) {
            ++suppressed_;
            return;
        }
        if (is_alarm(finding.verdict)) {
            alarmed_ = true;
            signals_.status_at_once(exit_hijack);
        }
        if (options_.only.empty() || std::ranges::find(options_.only, finding.verdict) != options_.only.end()) {
            if (finding.connection.existing) {  // many at once, which can wait; new ones cannot
                console_.await_room(interrupted_now_, capture_ == nullptr ? Console::for_ever : longest_unread);
            }
            outputs_.tell(&Output::connection, finding);
            ++shown_;
        }
    }

    // Names are no reason to wait, and none for another exit status.
    void report_names() {
        if (const auto news = kube_ == nullptr ? std::nullopt : kube_->news()) {
            note(*news);
        }
    }

    int end() {
        manager_.stopping();
        if (child_) {
            note(fmt::format("{} (process {}) is still running", options_.command.front(), child_->pid()));
        }
        console_.settle(interrupted_now_);  // then it is known how much of it is lost
        Summary summary;
        summary.verdicts = verdicts_;
        const auto counters = capture_ != nullptr ? capture_->counters() : CaptureCounters();
        loss_report_.tell([&counters] { return counters; }, outputs_, true);
        summary.lost = outputs_.writer().lost();
        if (capture_ != nullptr) {
            summary.seconds = std::chrono::duration<double>(Clock::now() - started_).count();
            summary.seen = counters.seen;
            summary.not_rewritten = counters.not_rewritten();
            summary.one_packet = counters.ipvs_one_packet;
            summary.lost += counters.lost_ring + counters.lost_pending + counters.missed_probes;
        }
        const auto unread = namespaces_.unread();
        summary.unread_sources = unread.sources;
        summary.unread_rules = unread.rules;
        summary.suppressed = suppressed_;
        summary.exit_status = status(summary.lost);
        outputs_.tell(&Output::summary, summary);
        if (const auto missed = outputs_.end(interrupted_ ? 100ms : 1000ms); !missed.empty()) {
            note(missed);
        }
        return settle(summary.exit_status);
    }

    // Exit status, once everything is out that ever will be.
    int settle(int status) {
        console_.settle(interrupted_now_);
        const auto error = error_ ? error_ : outputs_.writer().error();
        const auto lost = outputs_.writer().lost();
        if (error) {
            note(describe(*error));
        }
        if (lost > 0) {
            note(fmt::format("lines of output that nobody read are lost: {}", lost));
        }
        console_.settle(interrupted_now_);
        return error ? exit_failure : lost > 0 && status == exit_clean ? exit_unproven : status;
    }

    [[nodiscard]] int status(std::uint64_t lost) {
        const auto count = [this](Verdict verdict) { return verdicts_.at(static_cast<std::size_t>(verdict)); };
        if (error_) {
            return exit_failure;
        }
        if (alarmed_) {
            return exit_hijack;
        }
        const bool not_clean =
            !options_.all_netns && !not_proven(*namespaces_.here().history().newest().state, filter_).empty();
        const bool unproven =
            lost > 0 || incomplete_ || not_clean || count(Verdict::unknown) > 0 || count(Verdict::unsettled) > 0;
        return unproven ? exit_unproven : exit_clean;
    }

    const TraceOptions& options_;
    Filter filter_;
    Capture* capture_;
    Signals& signals_;
    Console& console_;
    std::optional<NetnsGuard> netns_;
    KubeNames* kube_;
    std::vector<int> inherited_;  // descriptors, for the command
    std::uint64_t reads_ = 0;     // of the state
    std::uint64_t read_ns_ = 0;   // when the last one ended
    bool incomplete_ = false;     // some of what decides was not read or not traced
    TracedNamespaces namespaces_;
    const ProbeReport::Note note_ = [this](std::string_view text) { note(text); };
    const Console::Stopped interrupted_now_ = [this] { return interrupted(); };
    const LiveJudge::Sink show_ = [this](const Finding& finding) { show(finding); };
    NodeStatePtr state_;  // as it was in the beginning
    TraceOutputs outputs_;
    ServiceManager manager_ = ServiceManager::from_environment();
    Clock::time_point started_;
    LossReport loss_report_;
    ProbeReport probe_report_;
    std::set<Key> existing_;
    std::uint64_t existing_end_ = 0;
    std::array<std::uint64_t, verdict_count> verdicts_{};
    bool alarmed_ = false;  // by what is not accepted
    std::uint64_t suppressed_ = 0;
    std::vector<std::string> unread_;
    std::uint64_t shown_ = 0;
    std::optional<Child> child_;
    std::optional<Error> error_;
    bool stopped_ = false;
    bool interrupted_ = false;  // by a signal
    bool modules_followed_ = true;
};

}  // namespace

int run_trace(const TraceOptions& options) {
    auto inherited = open_descriptors();
    auto signals = Signals::start(Signals::Stop::at_once);  // first of all threads
    if (!signals) {
        return fail(signals.error());
    }
    auto console = Console::start();
    if (!console) {
        return fail(console.error());
    }
    std::optional<MetricsServer> metrics;  // where hptrace was started, not where --netns leads
    if (!options.metrics.empty()) {
        auto server = MetricsServer::start(options.metrics);
        if (!server) {
            return fail(server.error());
        }
        metrics.emplace(*std::move(server));
    }
    // There too. It has the time that attaching takes to have names for the first lines.
    const auto kube = start_kube_names(options.kube, kube_node_name());
    if (!kube) {
        return fail(kube.error());
    }
    std::optional<NetnsGuard> netns;
    if (!options.netns.empty()) {
        auto entered = NetnsGuard::enter(options.netns);
        if (!entered) {
            return fail(entered.error());
        }
        netns.emplace(*std::move(entered));
    }
    if (*kube != nullptr && options.existing) {
        await_first_names(**kube);
    }
    const auto inode = current_netns_inode();
    if (!inode) {
        return fail(inode.error());
    }
    auto filter = options.filter;
    filter.netns = options.all_netns ? 0 : *inode;

    std::optional<Capture> capture;
    if (!options.existing) {
        // Before the first read of the state: no change can slip in between.
        auto started = Capture::start({.filter = filter, .choice = options.probe});
        if (!started) {
            return fail(with_alternatives(started.error()));
        }
        capture = std::move(*started);
    }
    return Trace(options, std::move(filter), capture ? &*capture : nullptr, *signals, *console, std::move(netns),
                 metrics ? &*metrics : nullptr, kube->get(), std::move(inherited))
        .run();
}

}  // namespace hptrace
