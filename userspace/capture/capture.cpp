// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/capture.hpp"

#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <span>
#include <utility>

#include "base/clock.hpp"
#include "capture/attach.hpp"
#include "capture/change_counts.hpp"
#include "capture/libbpf_log.hpp"
#include "capture/merger.hpp"
#include "capture/module_watch.hpp"
#include "capture/obstacles.hpp"
#include "capture/records.hpp"
#include "capture/shared_maps.hpp"

namespace hptrace {

namespace {

using Clock = std::chrono::steady_clock;

// Records below the wake-up mark of the ring make no noise: look this often.
constexpr std::chrono::milliseconds look_interval{50};

// Until 5.11 maps counted as locked memory. False: there is no right to raise the limit.
bool raise_memlock_limit() {
    const rlimit unlimited{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    return ::setrlimit(RLIMIT_MEMLOCK, &unlimited) == 0;
}

struct FreeRing {
    void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
};

Result<SharedMaps> create_maps() {
    if (auto obstacle = find_obstacle()) {
        return std::unexpected(*std::move(obstacle));
    }
    const bool unlimited = raise_memlock_limit();
    const LibbpfLog silence;
    auto maps = SharedMaps::create();
    if (!maps && (maps.error().code == EPERM || maps.error().code == EACCES)) {
        return system_error(
            maps.error().what, maps.error().code,
            explain_refusal() +
                (unlimited ? "" : "; or, before Linux 5.11, CAP_SYS_RESOURCE is missing, for locked memory"));
    }
    return maps;
}

// Why nothing at all is traced: one of nf_nat and ip_vs is there and neither could be attached.
std::optional<Error> nothing_attached(const Probes& probes) {
    auto refusal = probes.refusal();
    if (!refusal || probes.decision_mode("nf_nat") != ProbeMode::none ||
        probes.decision_mode("ip_vs") != ProbeMode::none) {
        return std::nullopt;
    }
    // Every function that decides, every mode that was tried, and what the kernel said to it.
    std::string tried;
    for (const auto& probe : probes.statuses()) {
        if (probe.purpose == ProbePurpose::decision && !probe.why_not_better.empty()) {
            tried += fmt::format("{}{}: {}", tried.empty() ? "" : "; ", probe.function, probe.why_not_better);
        }
    }
    // Lockdown shows as other errors, too: the helper that reads kernel memory does not exist then.
    const bool forbidden = refusal->code == EPERM || refusal->code == EACCES || forbids_reading_memory();
    return Error{fmt::format("nothing can be traced. {}", tried), 0, forbidden ? explain_refusal() : std::string()};
}

}  // namespace

std::string_view to_string(ProbeMode mode) {
    switch (mode) {
        case ProbeMode::fexit:
            return "fexit";
        case ProbeMode::kprobe:
            return "kprobe";
        case ProbeMode::confirm:
            return "kprobe at confirm";
        case ProbeMode::fixed:
            return "kprobe, no BTF";
        case ProbeMode::none:
            break;
    }
    return "none";
}

std::uint64_t CaptureCounters::not_rewritten() const {
    const auto difference = [](std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; };
    const auto changed = rewritten + difference(ipvs, ipvs_one_packet + ipvs_not_rewritten);
    // Where nf_nat has no hooks it has not seen those of ip_vs.
    return std::max(difference(seen, changed), ipvs_not_rewritten);
}

class Capture::Impl {
public:
    Impl(SharedMaps maps, Probes probes, Result<ModuleWatch> modules)
        : maps_(std::move(maps)),
          probes_(std::move(probes)),
          modules_(std::move(modules)),
          merger_({.sees_commits = probes_.sees_commits(), .sees_clashes = probes_.sees_clashes()}) {
        note_what_is_counted();
    }

    // The ring's callback keeps the address of this object, hence apart from the constructor.
    Result<void> open_ring() {
        const LibbpfLog log;
        ring_.reset(ring_buffer__new(maps_.events(), &Impl::on_record, this, nullptr));
        if (!ring_) {
            return system_error("cannot map the ring buffer", errno, log.reason());
        }
        return {};
    }

    // Hands over what is there and need not wait.
    Result<std::size_t> consume(const Sink& sink) {
        const auto now = boot_clock_ns();  // before reading: a commit that is in the ring is never taken for missing
        change_counts_.look();
        const int status = ring_buffer__consume(ring_.get());
        if (status < 0) {
            return system_error("cannot read the ring buffer", -status);
        }
        if (const auto lost = maps_.count(HPTRACE_COUNTER_LOST_COMMIT); lost != lost_commits_) {
            lost_commits_ = lost;
            merger_.commits_lost();
        }
        // A decision and its commit may fall on either side of a look at the counters: hence this one and the last.
        const auto lost_decisions = maps_.count(HPTRACE_COUNTER_LOST_RING) + maps_.count(HPTRACE_COUNTER_LOST_PENDING);
        if (lost_decisions != lost_decisions_.back()) {
            merger_.decisions_lost();
        }
        lost_decisions_ = {lost_decisions, lost_decisions_.front()};
        const auto count = merger_.release(now, sink);
        if (not_understood_) {
            return failure("the BPF programs sent a record that is not understood");
        }
        return count;
    }

    Result<std::size_t> poll(std::chrono::milliseconds timeout, const Sink& sink) {
        const auto end = Clock::now() + timeout;
        while (true) {
            auto count = consume(sink);
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
            if (!count || *count > 0 || left.count() <= 0) {
                return count;
            }
            epoll_event event{};
            const auto wait = static_cast<int>(std::min(left, look_interval).count());
            if (::epoll_wait(ring_buffer__epoll_fd(ring_.get()), &event, 1, wait) < 0) {
                if (errno != EINTR) {
                    return system_error("cannot wait for the ring buffer");
                }
                return 0;
            }
        }
    }

    Result<std::size_t> drain(const Sink& sink) {
        auto count = consume(sink);
        if (count) {
            *count += merger_.release_all(sink);
        }
        return count;
    }

    Result<std::vector<SubsystemChange>> follow_modules() {
        const auto looked_before = std::exchange(looked_for_modules_, boot_clock_ns());
        if (!modules_) {
            return std::unexpected(modules_.error());
        }
        auto changes = modules_->take();
        if (!changes && changes.error().code == ENOBUFS) {
            changes = probes_.differences();
        }
        if (!changes) {
            modules_ = std::unexpected(changes.error());
            note_what_is_counted();
            return std::unexpected(changes.error());
        }
        std::vector<SubsystemChange> result;
        for (const auto& [module, loaded] : *changes) {
            if (!Probes::concerns(module)) {
                continue;
            }
            if (!loaded) {
                probes_.unloaded(module, maps_);
            } else if (auto attached = probes_.loaded(module, maps_); !attached) {
                note_what_is_counted();
                return std::unexpected(attached.error());
            }
            result.push_back({.subsystem = module,
                              .decides = module == "nf_nat" || module == "ip_vs",
                              .loaded = loaded,
                              .from_boot_ns = looked_before,
                              .to_boot_ns = boot_clock_ns()});
        }
        merger_.set_sees(probes_.sees_commits(), probes_.sees_clashes());
        note_what_is_counted();
        return result;
    }

    [[nodiscard]] bool handed_over(std::uint64_t boot_ns) const { return merger_.handed_over(boot_ns); }
    [[nodiscard]] int descriptor() const { return ring_buffer__epoll_fd(ring_.get()); }
    [[nodiscard]] const Probes& probes() const { return probes_; }
    [[nodiscard]] hptrace_changes changes(std::uint32_t netns) { return change_counts_.now(netns); }
    [[nodiscard]] std::uint32_t tracked_sources() const { return tracked_sources_; }
    [[nodiscard]] bool misses_changes() const { return misses_changes_; }

    [[nodiscard]] CaptureCounters counters() const {
        return {
            .seen = maps_.count(HPTRACE_COUNTER_SEEN),
            .rewritten = maps_.count(HPTRACE_COUNTER_REWRITTEN),
            .ipvs = maps_.count(HPTRACE_COUNTER_IPVS),
            .ipvs_one_packet = maps_.count(HPTRACE_COUNTER_IPVS_ONE_PACKET),
            .ipvs_not_rewritten = maps_.count(HPTRACE_COUNTER_IPVS_NOT_REWRITTEN),
            .cache_hits = maps_.count(HPTRACE_COUNTER_CACHE_HIT),
            .lost_ring = maps_.count(HPTRACE_COUNTER_LOST_RING),
            .lost_commit = maps_.count(HPTRACE_COUNTER_LOST_COMMIT),
            .lost_pending = maps_.count(HPTRACE_COUNTER_LOST_PENDING),
            .missed_probes = probes_.missed(),
            .forgotten = merger_.forgotten(),
        };
    }

private:
    static int on_record(void* context, void* data, std::size_t size) {
        static_cast<Impl*>(context)->take({static_cast<const std::byte*>(data), size});
        return 0;
    }

    void take(std::span<const std::byte> record) {
        auto observation = decode(record);
        if (!observation) {
            not_understood_ = true;
            return;
        }
        auto& connection = observation->connection;
        connection.changes = change_counts_.repaired(connection.netns, connection.changes);
        merger_.take(*std::move(observation));
    }

    // For other threads: they cannot look at the probes while follow_modules() attaches some.
    void note_what_is_counted() {
        tracked_sources_ = probes_.tracked_sources();
        misses_changes_ = !modules_ || probes_.misses_changes();
    }

    SharedMaps maps_;
    Probes probes_;
    Result<ModuleWatch> modules_;  // tracing what is there works without
    std::uint64_t looked_for_modules_ = boot_clock_ns();
    std::unique_ptr<ring_buffer, FreeRing> ring_;
    Merger merger_;
    ChangeCounts change_counts_{[this](std::uint32_t netns) { return maps_.changes(netns); },
                                [] { return Clock::now().time_since_epoch(); }};
    std::atomic<std::uint32_t> tracked_sources_;
    std::atomic<bool> misses_changes_;
    std::uint64_t lost_commits_ = 0;
    std::array<std::uint64_t, 2> lost_decisions_{};  // at the last two looks, the later one first
    bool not_understood_ = false;
};

Result<Capture> Capture::start(const CaptureOptions& options) {
    const auto filter = to_record(options.filter);
    if (!filter) {
        return std::unexpected(filter.error());
    }
    auto maps = create_maps();
    if (!maps) {
        return std::unexpected(maps.error());
    }
    // Before the probes: no module can slip in between.
    auto modules = ModuleWatch::open();
    auto probes = Probes::attach(*maps, *filter, options.choice);
    if (!probes) {
        return std::unexpected(probes.error());
    }
    if (auto refusal = nothing_attached(*probes)) {
        return std::unexpected(*std::move(refusal));
    }
    auto impl = std::make_unique<Impl>(*std::move(maps), *std::move(probes), std::move(modules));
    if (auto opened = impl->open_ring(); !opened) {
        return std::unexpected(opened.error());
    }
    return Capture(std::move(impl));
}

ProbeTrial Capture::probe(ProbeChoice choice) {
    const auto maps = create_maps();
    if (!maps) {
        return {untried_probes(describe(maps.error())), maps.error()};
    }
    const auto probes = Probes::attach(*maps, hptrace_filter{}, choice);
    if (!probes) {
        return {untried_probes(describe(probes.error())), probes.error()};
    }
    return {probes->statuses(), nothing_attached(*probes)};
}

Capture::Capture(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Capture::Capture(Capture&&) noexcept = default;
Capture& Capture::operator=(Capture&&) noexcept = default;
Capture::~Capture() = default;

ProbeMode Capture::mode() const {
    const auto nat = impl_->probes().decision_mode("nf_nat");
    return nat == ProbeMode::none ? impl_->probes().decision_mode("ip_vs") : nat;
}

const std::vector<ProbeStatus>& Capture::probes() const {
    return impl_->probes().statuses();
}
Result<std::vector<SubsystemChange>> Capture::follow_modules() {
    return impl_->follow_modules();
}
bool Capture::counts_missed() const {
    return impl_->probes().counts_missed();
}
Result<std::size_t> Capture::poll(std::chrono::milliseconds timeout, const Sink& sink) {
    return impl_->poll(timeout, sink);
}
Result<std::size_t> Capture::drain(const Sink& sink) {
    return impl_->drain(sink);
}
bool Capture::handed_over(std::uint64_t boot_ns) const {
    return impl_->handed_over(boot_ns);
}
int Capture::descriptor() const {
    return impl_->descriptor();
}
hptrace_changes Capture::changes(std::uint32_t netns) const {
    return impl_->changes(netns);
}
std::uint32_t Capture::tracked_sources() const {
    return impl_->tracked_sources();
}
bool Capture::misses_changes() const {
    return impl_->misses_changes();
}
CaptureCounters Capture::counters() const {
    return impl_->counters();
}

}  // namespace hptrace
