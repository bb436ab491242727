// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/metrics.hpp"

#include <fmt/format.h>
#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <array>
#include <exception>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "judge/words.hpp"
#include "output/escape.hpp"

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
    MetricsOutput(std::shared_ptr<prometheus::Registry> registry, const std::string& version)
        : registry_(std::move(registry)),
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
                      .Help("Sources of the node's state that cannot be read: verdicts are unknown")
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
        for (const auto* where : {"ring_buffer", "pending", "missed_probes", "commit", "journal", "output"}) {
            lost_.Add({{"where", where}});
        }
        BuildGauge()
            .Name("hptrace_build_info")
            .Help("Always 1; the version")
            .Register(*registry_)
            .Add({{"version", version}})
            .Set(1);
    }

    void begin(const Beginning& beginning) override {
        unread_.Set(static_cast<double>(beginning.unread_sources.size()));
    }
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

    void leaked(const HostPortRule&) override {}
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
    void unread(const std::vector<std::string>& sources) override { unread_.Set(static_cast<double>(sources.size())); }
    void summary(const Summary&) override { tracing_.Set(0); }

    void turn(const Health& health) override {
        reads_.Increment(static_cast<double>(health.state_reads) - reads_.Value());
        age_.Set(static_cast<double>(health.state_age_ns) / 1e9);
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
    prometheus::Family<prometheus::Gauge>& conflicts_;
    prometheus::Family<prometheus::Counter>& connections_;
    prometheus::Family<prometheus::Counter>& bad_;
    prometheus::Family<prometheus::Counter>& lost_;
    prometheus::Counter& reads_;
    prometheus::Gauge& age_;
    prometheus::Gauge& unread_;
    prometheus::Gauge& tracing_;
    prometheus::Family<prometheus::Gauge>& probes_;
    std::set<prometheus::Gauge*> probed_;  // of probes_
    std::map<std::pair<Verdict, Protocol>, prometheus::Counter*> by_verdict_;
    std::map<std::pair<std::uint32_t, std::string>, prometheus::Gauge*> shown_;  // by namespace and conflict_id
    std::size_t bad_series_ = 0;
};

}  // namespace

MetricsServer::MetricsServer() : registry_(std::make_shared<prometheus::Registry>()) {}
MetricsServer::MetricsServer(MetricsServer&&) noexcept = default;
MetricsServer& MetricsServer::operator=(MetricsServer&&) noexcept = default;
MetricsServer::~MetricsServer() = default;

Result<MetricsServer> MetricsServer::start(const std::string& address) {
    MetricsServer server;
    try {
        server.exposer_ = std::make_unique<prometheus::Exposer>(address);
    } catch (const std::exception&) {  // of civetweb, which does not tell why
        return failure(fmt::format("cannot serve metrics on {}", address),
                       "is the address this machine's, and the port free?");
    }
    server.exposer_->RegisterCollectable(server.registry_);
    return server;
}

std::unique_ptr<Output> make_metrics_output(std::shared_ptr<prometheus::Registry> registry,
                                            const std::string& version) {
    return std::make_unique<MetricsOutput>(std::move(registry), version);
}

}  // namespace hptrace
