// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/metrics.hpp"

#include <fmt/format.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <chrono>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "judge/words.hpp"
#include "output/escape.hpp"
#include "output/http_server.hpp"

namespace hptrace {

namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::Labels;

constexpr std::array all_protocols{Protocol::tcp, Protocol::udp, Protocol::sctp};

std::string service_label(const Service& service) {
    return service.name ? escape(full_name(*service.name))
                        : fmt::format("{}/{}", destination_text(service), to_string(service.protocol));
}

class MetricsOutput final : public Output {
public:
    MetricsOutput(std::shared_ptr<prometheus::Registry> registry, const std::string& version,
                  std::shared_ptr<Heartbeat> heartbeat)
        : registry_(std::move(registry)),
          heartbeat_(std::move(heartbeat)),
          conflicts_(BuildGauge()
                         .Name("hptrace_conflict")
                         .Help("A Service and a hostPort that want the same destination; absent once it is over")
                         .Register(*registry_)),
          connections_(BuildCounter()
                           .Name("hptrace_connections_total")
                           .Help("Rewritten connections, by verdict")
                           .Register(*registry_)),
          bad_(BuildCounter()
                   .Name("hptrace_bad_connections_total")
                   .Help("Connections to a Service that ended elsewhere, by Service and the hostPort's owner")
                   .Register(*registry_)),
          lost_(BuildCounter()
                    .Name("hptrace_lost_total")
                    .Help("What was not seen or not handed on, by place")
                    .Register(*registry_)),
          reads_(BuildCounter()
                     .Name("hptrace_state_reads_total")
                     .Help("How often the node's rules and services were read")
                     .Register(*registry_)
                     .Add({})),
          age_(BuildGauge()
                   .Name("hptrace_state_age_seconds")
                   .Help("How long ago that was; old is fine while nothing changes")
                   .Register(*registry_)
                   .Add({})),
          unread_(BuildGauge()
                      .Name("hptrace_unread_sources")
                      .Help("Sources of the node's state that cannot be read and could change a verdict")
                      .Register(*registry_)
                      .Add({})),
          unread_names_(BuildGauge()
                            .Name("hptrace_unread_name_sources")
                            .Help("Those that only tell names, kinds or owners: verdicts are right without them")
                            .Register(*registry_)
                            .Add({})),
          tracing_(BuildGauge()
                       .Name("hptrace_tracing")
                       .Help("1 while connections are followed")
                       .Register(*registry_)
                       .Add({})),
          probes_(BuildGauge()
                      .Name("hptrace_probe_info")
                      .Help("Always 1; how each kernel function is traced")
                      .Register(*registry_)) {
        // They are there from the beginning: a rate needs a first value.
        for (std::size_t i = 0; i < verdict_count; ++i) {
            for (const auto protocol : all_protocols) {
                const auto verdict = static_cast<Verdict>(i);
                by_verdict_.emplace(std::pair(verdict, protocol),
                                    &connections_.Add({{"verdict", std::string(to_string(verdict))},
                                                       {"protocol", std::string(to_string(protocol))}}));
            }
        }
        for (const auto where : places_of_loss) {
            lost_.Add({{"where", std::string(where)}});
        }
        BuildGauge()
            .Name("hptrace_build_info")
            .Help("Always 1; the version")
            .Register(*registry_)
            .Add({{"version", version}})
            .Set(1);
    }

    void begin(const Beginning&) override {}
    void tracing(std::string_view) override { tracing_.Set(1); }

    void probes(const std::vector<ProbedFunction>& functions) override {
        std::set<prometheus::Gauge*> now;
        for (const auto& probe : functions) {
            auto& gauge = probes_.Add({{"function", probe.function}, {"mode", probe.mode}});
            gauge.Set(1);
            now.insert(&gauge);
        }
        for (auto* const gauge : std::exchange(probed_, now)) {
            if (!now.contains(gauge)) {
                probes_.Remove(gauge);
            }
        }
    }

    void conflict(const Conflict& conflict) override {
        conflict_ended(conflict);  // another winner than before
        auto& gauge = conflicts_.Add(labels_of(conflict));
        gauge.Increment();  // several conflicts can share their labels: IPv4 and IPv6, TCP and UDP
        shown_.emplace(std::pair(conflict.netns, conflict.conflict_id), &gauge);
    }

    void conflict_ended(const Conflict& conflict) override {
        const auto found = shown_.find({conflict.netns, conflict.conflict_id});
        if (found == shown_.end()) {
            return;
        }
        auto* const gauge = found->second;
        shown_.erase(found);
        gauge->Decrement();
        if (gauge->Value() < 1) {
            conflicts_.Remove(gauge);
        }
    }

    void leaked(const LeakedRule&) override {}
    void connection(const Finding&) override {}

    void judged(const Finding& finding) override {
        by_verdict_.at({finding.verdict, finding.connection.protocol})->Increment();
        if (!is_alarm(finding.verdict)) {
            return;
        }
        Labels labels{{"verdict", std::string(to_string(finding.verdict))},
                      {"service", finding.service ? service_label(*finding.service) : ""},
                      {"owner", finding.rule ? escape(owner_text(*finding.rule, finding.rule_pod)) : ""}};
        if (bad_series_ >= most_metric_series && !bad_.Has(labels)) {
            labels["service"] = labels["owner"] = others;
        } else if (!bad_.Has(labels)) {
            ++bad_series_;
        }
        bad_.Add(labels).Increment();
    }

    void lost(const Loss& loss) override {
        lost_.Add({{"where", std::string(loss.where)}}).Increment(static_cast<double>(loss.count));
    }
    void gap(const Gap&) override {}
    void unread(const std::vector<std::string>&) override {}  // turn() has the numbers
    void summary(const Summary&) override { tracing_.Set(0); }

    void turn(const Health& health) override {
        reads_.Increment(static_cast<double>(health.state_reads) - reads_.Value());
        age_.Set(static_cast<double>(health.state_age_ns) / 1e9);
        unread_.Set(static_cast<double>(health.unread.deciding));
        unread_names_.Set(static_cast<double>(health.unread.naming));
        if (heartbeat_) {
            heartbeat_->beat();
        }
    }

private:
    static constexpr const char* others = "others";

    Labels labels_of(const Conflict& conflict) {
        Labels labels{{"service", service_label(conflict.service)},
                      {"owner", escape(owner_text(conflict.rule, conflict.rule_pod))},
                      {"winner", std::string(to_string(conflict.winner))}};
        if (shown_.size() >= most_metric_series && !conflicts_.Has(labels)) {
            labels["service"] = labels["owner"] = others;
        }
        return labels;
    }

    std::shared_ptr<prometheus::Registry> registry_;
    std::shared_ptr<Heartbeat> heartbeat_;
    prometheus::Family<prometheus::Gauge>& conflicts_;
    prometheus::Family<prometheus::Counter>& connections_;
    prometheus::Family<prometheus::Counter>& bad_;
    prometheus::Family<prometheus::Counter>& lost_;
    prometheus::Counter& reads_;
    prometheus::Gauge& age_;
    prometheus::Gauge& unread_;
    prometheus::Gauge& unread_names_;
    prometheus::Gauge& tracing_;
    prometheus::Family<prometheus::Gauge>& probes_;
    std::set<prometheus::Gauge*> probed_;  // of probes_
    std::map<std::pair<Verdict, Protocol>, prometheus::Counter*> by_verdict_;
    std::map<std::pair<std::uint32_t, std::string>, prometheus::Gauge*> shown_;  // by namespace and conflict_id
    std::size_t bad_series_ = 0;
};

// The registry as text, made anew at most ten times a second: whoever asks more often costs no more, and holds up
// nobody who changes a metric meanwhile.
class MetricsPage {
public:
    explicit MetricsPage(std::shared_ptr<prometheus::Registry> registry) : registry_(std::move(registry)) {}

    HttpAnswer answer() {
        if (const auto now = Clock::now(); text_.empty() || now >= made_ + longest_use) {
            text_ = prometheus::TextSerializer().Serialize(registry_->Collect());
            made_ = now;
        }
        return {.status = 200, .type = "text/plain; version=0.0.4; charset=utf-8", .body = text_};
    }

private:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::milliseconds longest_use{100};

    std::shared_ptr<prometheus::Registry> registry_;
    std::string text_;
    Clock::time_point made_;
};

HttpAnswer health_page(const Heartbeat& heartbeat) {
    const auto age = heartbeat.age();
    const bool well = age && *age <= longest_turn;
    const auto seconds = age ? std::chrono::duration<double>(*age).count() : 0;
    return {.status = well ? 200U : 503U,
            .type = "text/plain; charset=utf-8",
            .body = !age   ? "the trace has not begun yet\n"
                    : well ? fmt::format("ok: the trace looked around {:.1f} s ago\n", seconds)
                           : fmt::format("the trace is stuck: it has not looked around for {:.0f} s\n", seconds)};
}

}  // namespace

void Heartbeat::beat(std::chrono::steady_clock::time_point now) {
    last_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
}

std::optional<std::chrono::steady_clock::duration> Heartbeat::age(std::chrono::steady_clock::time_point now) const {
    const auto last = last_.load(std::memory_order_relaxed);
    return last == 0 ? std::nullopt : std::optional(now.time_since_epoch() - std::chrono::steady_clock::duration(last));
}

MetricsServer::MetricsServer()
    : registry_(std::make_shared<prometheus::Registry>()), heartbeat_(std::make_shared<Heartbeat>()) {}
MetricsServer::MetricsServer(MetricsServer&&) noexcept = default;
MetricsServer& MetricsServer::operator=(MetricsServer&&) noexcept = default;
MetricsServer::~MetricsServer() = default;

Result<MetricsServer> MetricsServer::start(const std::string& address) {
    const auto where = parse_endpoint(address);
    if (!where) {
        return failure(fmt::format("cannot serve metrics on {}", address), "it takes ADDRESS:PORT, as 127.0.0.1:9755");
    }
    MetricsServer server;
    const auto page = std::make_shared<MetricsPage>(server.registry_);
    auto http = HttpServer::start(
        *where,
        {{.path = "/metrics", .make = [page] { return page->answer(); }},
         {.path = "/healthz", .make = [heartbeat = server.heartbeat_] { return health_page(*heartbeat); }}},
        HttpServer::Limits());
    if (!http) {
        auto error = std::move(http.error());
        error.what = "cannot serve metrics: " + error.what;
        return std::unexpected(std::move(error));
    }
    server.http_ = std::make_unique<HttpServer>(*std::move(http));
    return server;
}

std::uint16_t MetricsServer::port() const {
    return http_->port();
}

std::unique_ptr<Output> make_metrics_output(std::shared_ptr<prometheus::Registry> registry, const std::string& version,
                                            std::shared_ptr<Heartbeat> heartbeat) {
    return std::make_unique<MetricsOutput>(std::move(registry), version, std::move(heartbeat));
}

}  // namespace hptrace
