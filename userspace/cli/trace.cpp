// SPDX-License-Identifier: GPL-2.0-or-later
// hptrace trace: conflicts, connections that exist, then connections as they are made.
#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "capture/capture.hpp"
#include "cli/abilities.hpp"
#include "cli/conflict_report.hpp"
#include "cli/console.hpp"
#include "cli/existing_run.hpp"
#include "cli/kube.hpp"
#include "cli/last_steps.hpp"
#include "cli/loss_report.hpp"
#include "cli/overview.hpp"
#include "cli/probe_report.hpp"
#include "cli/run.hpp"
#include "cli/service_manager.hpp"
#include "cli/signals.hpp"
#include "cli/trace_outputs.hpp"
#include "cli/traced_command.hpp"
#include "cli/traced_namespaces.hpp"
#include "cli/verdict_report.hpp"
#include "judge/doubts.hpp"
#include "output/output.hpp"
#include "state/netns.hpp"

namespace hptrace {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// A record that makes no noise is taken from the ring within 20 ms: so often it is looked at, and a turn takes some
// milliseconds.
constexpr auto turn_interval = 12ms;

// A stop is answered within 200 ms: behind patience_after_stop so long the reading that is under way is waited for.
constexpr auto patience_for_reading = 40ms;

// So long a reader of existing connections may take nothing, while new ones are made.
constexpr auto longest_unread = 1000ms;

// What the thread that reads has to know of the probes, without touching them.
struct Tracked {
    std::atomic<std::uint32_t> sources = 0;
    std::atomic<bool> incomplete = false;

    void update(const Capture& capture) {
        sources = capture.tracked_sources();
        incomplete = capture.misses_changes();
    }
};

class Trace {
public:
    // capture: null for --existing. netns: where --netns took hptrace. kube: null without --kubeconfig.
    Trace(const TraceOptions& options, Filter filter, Capture* capture, Signals& signals, Console& console,
          std::optional<NetnsGuard> netns, std::uint32_t here, const MetricsServer* metrics, KubeNames* kube,
          std::vector<int> inherited)
        : options_(options),
          filter_(std::move(filter)),
          capture_(capture),
          signals_(signals),
          console_(console),
          kube_(kube),
          command_(options, std::move(netns), std::move(inherited), note_),
          here_(here),
          outputs_(options, *unread_state(here, "not read yet"), metrics, console.out()) {}

    int run() {
        signals_.on_stop(Signals::Stop::handed_over);
        auto namespaces = TracedNamespaces::start(namespaces_options());
        if (!namespaces) {
            return fail(namespaces.error());
        }
        namespaces_ = *std::move(namespaces);
        existing_.emplace(*namespaces_, options_.all_netns, filter_);
        existing_->judge([](const Connection&) { return true; });
        while (!done()) {
            turn();
        }
        finish_up();
        const int status = end();
        if (!namespaces_->stop(patience_for_reading)) {
            // A reading in the kernel cannot be interrupted, and there is nothing left to be done but to wait for it.
            std::_Exit(status);
        }
        return status;
    }

private:
    [[nodiscard]] TracedNamespaces::Options namespaces_options() {
        TracedNamespaces::Options options{.here = here_,
                                          .node = netns_pid(options_.netns),
                                          .host_root = options_.host_root,
                                          .graces = capture_ != nullptr,
                                          .filter = filter_};
        if (capture_ != nullptr) {
            tracked_->update(*capture_);
            options.counters = {.now = [this](std::uint32_t inode) { return capture_->changes(inode); },
                                .tracked = [tracked = tracked_] { return tracked->sources.load(); },
                                .incomplete = [tracked = tracked_] { return tracked->incomplete.load(); }};
        }
        if (kube_ != nullptr) {
            options.cluster = [this] { return kube_->names(); };
        }
        options.on_read = [this](const Reading& reading) {
            incomplete_ = incomplete_ || !reading.conflicts->doubts.empty();
            ++reads_;
            read_ns_ = boot_clock_ns();
        };
        return options;
    }

    // Nothing in it waits for anything but the next turn, so that the ring is emptied whatever else there is to do.
    void turn() {
        const auto next = Clock::now() + turn_interval;
        namespaces_->turn();
        take_decisions();
        handle_signals();
        bool more = false;
        if (!begun_ && !namespaces_->here().history().empty()) {
            begin();
        }
        if (begun_ && !error_) {
            more = namespaces_->judge(show_, LiveJudge::Haste::none, room_for_existing());
            follow_existing();
            start_command();
            conflicts_.ended(namespaces_->forget_gone());
            follow_modules();
            follow_state();
            report_names();
            tell_losses(false);
            outputs_.tell(
                &Output::turn,
                Health{.state_reads = reads_, .state_age_ns = boot_clock_ns() - read_ns_, .unread = unread_.count});
            manager_.turn();
            if (options_.json || !options_.journald) {  // else nothing is written there
                outputs_.writer().check_reader();
            }
        }
        if (!done()) {
            wait(more ? Clock::now() : next);
        }
    }

    // The first state has come.
    void begin() {
        begun_ = true;
        auto& here = namespaces_->here();
        static_cast<void>(here.introduce());
        conflicts_.introduce(here, {.pod = false, .service = kube_pending(here)});
        const auto& state = *here.history().newest().state;
        if (!options_.all_netns) {
            std::ranges::for_each(nothing_to_see(state, filter_), note_);
        }
        const auto mode = capture_ == nullptr                   ? "existing connections"
                          : capture_->mode() == ProbeMode::none ? "nothing yet"
                                                                : to_string(capture_->mode());
        if (capture_ != nullptr) {
            incomplete_ = !probe_report_.say(*capture_, note_) || incomplete_;
            tell_probes();
            note(fmt::format("tracing ({})", mode));
        }
        unread_ = namespaces_->unread();
        started_ = Clock::now();
        outputs_.tell(&Output::tracing, mode);
        manager_.ready(fmt::format("tracing ({})", mode));
    }

    // The API, which names what is in this namespace, has had no time yet to be listed. (It names nothing elsewhere.)
    [[nodiscard]] bool kube_pending(const TracedNetns& netns) {
        return kube_ != nullptr && &netns == &namespaces_->here() && !kube_->wait_for_first_list(0ms);
    }

    void follow_state() {
        bool news = false;
        namespaces_->each([&](TracedNetns& netns) {
            if (netns.introduced() && netns.news()) {
                conflicts_.compare(netns, {.pod = true, .service = kube_pending(netns)});
                news = true;
            }
        });
        if (!news) {
            return;
        }
        const auto known = std::exchange(unread_, namespaces_->unread());
        if (unread_.sources != known.sources) {
            outputs_.tell(&Output::unread, unread_.sources);
        }
    }

    void follow_existing() {
        const auto all_came = [this](std::uint64_t boot_ns) {
            return capture_ == nullptr || capture_->handed_over(boot_ns);
        };
        if (const auto problem = existing_->turn(all_came)) {
            incomplete_ = true;
            note(*problem);
        }
    }

    // Before the command can change anything, connections that exist already have been judged.
    void start_command() {
        if (!existing_to_come() && capture_ != nullptr && command_.wanted() && !command_.started()) {
            if (const auto started = command_.start(); !started) {
                error_ = started.error();
            }
        }
    }

    [[nodiscard]] bool existing_to_come() const {
        return !begun_ || !existing_->over() || namespaces_->existing_waiting() > 0;
    }

    // A subsystem that was loaded meanwhile: what it did before the probes were attached is in conntrack.
    void follow_modules() {
        if (capture_ == nullptr || !modules_followed_) {
            return;
        }
        const auto changes = capture_->follow_modules();
        tracked_->update(*capture_);
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
            const auto mechanism = change.subsystem == "ip_vs" ? Mechanism::ip_vs : Mechanism::nf_nat;
            existing_->judge([mechanism](const Connection& connection) { return connection.mechanism == mechanism; });
        }
    }

    void tell_probes() {
        std::vector<ProbedFunction> functions;
        for (const auto& probe : capture_->probes()) {
            functions.push_back({probe.function, std::string(to_string(probe.mode))});
        }
        outputs_.tell(&Output::probes, functions);
    }

    void take_decisions() {
        if (capture_ == nullptr) {
            return;
        }
        if (auto result = capture_->poll(0ms, take_); !result) {
            error_ = result.error();
        }
    }

    void take(Connection&& connection) {
        existing_->saw(connection);
        namespaces_->take(std::move(connection));
    }

    // What was decided before the end belongs to it, and what existed at the beginning.
    void finish_up() {
        if (enough()) {
            return;
        }
        wait_no_longer_for_names();
        // SIGCHLD can overtake the last records.
        take_last_decisions(turn_interval);
        const LastSteps steps{.step = [this] { return last_step(); },
                              .wait = [this] { wait(Clock::now() + turn_interval); },
                              .stopped =
                                  [this] {
                                      handle_signals();
                                      return stopped_at_;
                                  }};
        const bool all = steps.take(std::chrono::nanoseconds(StateHistory::longest_wait_ns));
        wait_no_longer_for_names();
        take_last_decisions(0ms);
        // Those that exist already can be very many: a stop does not wait for more of them.
        const auto existing = stopped_at_ && !all ? TracedNamespaces::Existing::later : TracedNamespaces::Existing::too;
        while (namespaces_->judge(show_, LiveJudge::Haste::now, existing)) {
        }
        if (!begun_) {
            incomplete_ = true;
            const auto unread = unread_state(here_, "stopped before it was read");
            outputs_.tell(&Output::begin, overview(*unread, filter_, doubts(*unread, filter_)));
        } else if (existing_to_come()) {
            incomplete_ = true;
            note("stopped before all connections that exist already were judged");
        }
    }

    LastSteps::Left last_step() {
        namespaces_->turn();
        if (!begun_ && !namespaces_->here().history().empty()) {
            begin();
        }
        if (begun_) {
            if (existing_to_come()) {
                take_decisions();  // one of which may be the same connection as one that exists already
                follow_existing();
            }
            if (namespaces_->judge(show_, LiveJudge::Haste::soon, room_for_existing())) {
                return LastSteps::Left::more;
            }
        }
        const bool nothing = begun_ && !existing_to_come() && namespaces_->idle();
        return nothing || error_ || enough() ? LastSteps::Left::nothing : LastSteps::Left::waiting;
    }

    void wait_no_longer_for_names() {
        namespaces_->each([this](TracedNetns& netns) {
            if (netns.conflicts().waiting() && netns.history().newest().consistent()) {
                conflicts_.compare(netns, {});
            }
        });
    }

    void take_last_decisions(std::chrono::milliseconds patience) {
        if (capture_ == nullptr) {
            return;
        }
        for (const auto& last : {capture_->poll(patience, take_), capture_->drain(take_)}) {
            if (!last) {
                error_ = last.error();
            }
        }
    }

    // Until then, or there is something to do.
    void wait(Clock::time_point until) {
        if (options_.duration && begun_) {
            until = std::min(until, started_ + *options_.duration);
        }
        const auto [reads, graces] = namespaces_->descriptors();
        const int ring = capture_ == nullptr ? -1 : capture_->descriptor();  // poll() passes over -1
        std::array<pollfd, 4> wait_for{{{.fd = signals_.descriptor(), .events = POLLIN, .revents = 0},
                                        {.fd = reads, .events = POLLIN, .revents = 0},
                                        {.fd = graces, .events = POLLIN, .revents = 0},
                                        {.fd = ring, .events = POLLIN, .revents = 0}}};
        const auto left = std::max(std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()), 0ms);
        static_cast<void>(::poll(wait_for.data(), wait_for.size(), static_cast<int>(left.count())));
    }

    [[nodiscard]] bool done() const {
        return stopped_at_ || command_ended_ || error_ || enough() || (capture_ == nullptr && !existing_to_come()) ||
               (options_.duration && begun_ && Clock::now() - started_ >= *options_.duration);
    }

    // Nothing more can or should be shown.
    [[nodiscard]] bool enough() const {
        return !outputs_.writer().ok() || (options_.count && verdicts_.shown() >= *options_.count);
    }

    void handle_signals() {
        while (const auto number = signals_.next()) {
            if (*number == SIGCHLD) {
                command_ended_ = command_.ended() || command_ended_;
            } else if (!stopped_at_) {
                stopped_at_ = Clock::now();
            }
        }
    }

    void show(const Finding& finding) {
        if (enough()) {
            return;
        }
        // Others than this one are read when they are needed.
        if (auto& netns = namespaces_->of(finding.connection.netns); !netns.history().empty() && netns.introduce()) {
            conflicts_.introduce(netns, {});
        }
        verdicts_.show(finding);
        if (verdicts_.alarmed()) {
            signals_.status_at_once(exit_hijack);
        }
    }

    // They are many at once and can wait for a reader that is slower than they are told; new ones cannot.
    TracedNamespaces::Existing room_for_existing() {
        const auto now = Clock::now();
        if (outputs_.writer().wait_for_room(0ms)) {
            had_room_ = now;
        }
        const bool waited_enough = capture_ != nullptr && now - had_room_ >= longest_unread;
        return had_room_ == now || waited_enough ? TracedNamespaces::Existing::too : TracedNamespaces::Existing::later;
    }

    // For what waits elsewhere than in wait().
    bool interrupted() {
        handle_signals();
        return stopped_at_.has_value();
    }

    // Not the free function, which waits for who reads stderr.
    void note(std::string_view text) { console_.note(text); }

    // Names are no reason to wait, and none for another exit status.
    void report_names() {
        if (const auto news = kube_ == nullptr ? std::nullopt : kube_->news()) {
            note(*news);
        }
    }

    void tell_losses(bool last) {
        const auto ask = [this] { return capture_ != nullptr ? capture_->counters() : CaptureCounters(); };
        loss_report_.tell(ask, namespaces_->overflowed(), outputs_, last);
    }

    int end() {
        manager_.stopping();
        command_.say_if_running();
        console_.settle(interrupted_);  // then it is known how much of it is lost
        tell_losses(true);
        Summary summary;
        summary.verdicts = verdicts_.counts();
        summary.lost = outputs_.writer().lost();
        if (capture_ != nullptr) {
            const auto counters = capture_->counters();
            summary.seconds = begun_ ? std::chrono::duration<double>(Clock::now() - started_).count() : 0;
            summary.seen = counters.seen;
            summary.not_rewritten = counters.not_rewritten();
            summary.one_packet = counters.ipvs_one_packet;
            summary.lost +=
                counters.lost_ring + counters.lost_pending + counters.missed_probes + namespaces_->overflowed();
        }
        const auto unread = namespaces_->unread();
        summary.unread_sources = unread.sources;
        summary.unread_rules = unread.rules;
        summary.doubts = doubts_here();
        summary.suppressed = verdicts_.suppressed();
        summary.exit_status = status(summary.lost);
        outputs_.tell(&Output::summary, summary);
        if (const auto missed = outputs_.end(stopped_at_ ? 100ms : 1000ms); !missed.empty()) {
            note(missed);
        }
        return settle(summary.exit_status);
    }

    // Exit status, once everything is out that ever will be.
    int settle(int status) {
        console_.settle(interrupted_);
        const auto error = error_ ? error_ : outputs_.writer().error();
        const auto lost = outputs_.writer().lost();
        if (error) {
            note(describe(*error));
        }
        if (lost > 0) {
            note(fmt::format("lines of output that nobody read are lost: {}", lost));
        }
        console_.settle(interrupted_);
        return error ? exit_failure : lost > 0 && status == exit_clean ? exit_unproven : status;
    }

    // Why there may be more than what was found in this namespace.
    [[nodiscard]] std::vector<std::string> doubts_here() {
        auto& here = namespaces_->here();
        return options_.all_netns || here.history().empty()
                   ? std::vector<std::string>()
                   : not_proven(*here.history().newest().state, here.found_conflicts().doubts);
    }

    [[nodiscard]] int status(std::uint64_t lost) {
        if (error_) {
            return exit_failure;
        }
        if (verdicts_.alarmed()) {
            return exit_hijack;
        }
        const bool not_clean = !options_.all_netns && (!begun_ || !doubts_here().empty());
        const bool unproven = lost > 0 || incomplete_ || not_clean || !namespaces_->current() ||
                              verdicts_.count(Verdict::unknown) > 0 || verdicts_.count(Verdict::unsettled) > 0;
        return unproven ? exit_unproven : exit_clean;
    }

    const TraceOptions& options_;
    Filter filter_;
    Capture* capture_;
    Signals& signals_;
    Console& console_;
    const ConflictReport::Note note_ = [this](std::string_view text) { note(text); };
    const Console::Stopped interrupted_ = [this] { return interrupted(); };
    KubeNames* kube_;
    TracedCommand command_;
    std::uint32_t here_;  // inode number of the namespace
    std::shared_ptr<Tracked> tracked_ = std::make_shared<Tracked>();
    std::uint64_t reads_ = 0;    // of the state
    std::uint64_t read_ns_ = 0;  // when the last one ended
    bool incomplete_ = false;    // some of what decides was not read or not traced
    TraceOutputs outputs_;
    VerdictReport verdicts_{options_, outputs_};
    ConflictReport conflicts_{options_, filter_, outputs_, note_};
    const LiveJudge::Sink show_ = [this](const Finding& finding) { show(finding); };
    const Capture::Sink take_ = [this](Connection&& connection) { take(std::move(connection)); };
    ServiceManager manager_ = ServiceManager::from_environment();
    Clock::time_point started_;
    Clock::time_point had_room_ = Clock::now();  // for existing connections, in what is to be written
    LossReport loss_report_;
    ProbeReport probe_report_;
    TracedNamespaces::Unread unread_;
    std::unique_ptr<TracedNamespaces> namespaces_;
    std::optional<ExistingRuns> existing_;
    std::optional<Error> error_;
    std::optional<Clock::time_point> stopped_at_;  // by a signal
    bool command_ended_ = false;
    bool begun_ = false;
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
                 *inode, metrics ? &*metrics : nullptr, kube->get(), std::move(inherited))
        .run();
}

}  // namespace hptrace
