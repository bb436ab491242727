// SPDX-License-Identifier: GPL-2.0-or-later
// The state of a trace as Prometheus scrapes it, and whether the trace is alive. prometheus-cpp keeps and writes the
// metrics, HttpServer serves them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "output/output.hpp"

namespace prometheus {
class Registry;
}  // namespace prometheus

namespace hptrace {

class HttpServer;

// When the loop of the trace last turned: told by its thread, asked by others.
class Heartbeat {
public:
    void beat(std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now());
    // Since the last beat; nothing: there was none yet.
    [[nodiscard]] std::optional<std::chrono::steady_clock::duration> age(
        std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now()) const;

private:
    std::atomic<std::chrono::steady_clock::rep> last_{0};
};

// The loop turns several times a second; one that has not for this long is stuck.
inline constexpr std::chrono::seconds longest_turn{30};

// Serves, from its creation on: /metrics, in Prometheus' text format 0.0.4, at most 100 ms old, which come with outputs
// made from it; and /healthz, a line of text, with status 200 while the trace's loop turns, 503 before the first turn
// and when the last one is more than longest_turn ago.
class MetricsServer {
public:
    // address: "127.0.0.1:9755", "[::1]:9755"; port 0: any. Listens in the network namespace of the calling thread.
    // Error: with errno, as when the port is taken.
    static Result<MetricsServer> start(const std::string& address);

    MetricsServer(MetricsServer&&) noexcept;
    MetricsServer& operator=(MetricsServer&&) noexcept;
    MetricsServer(const MetricsServer&) = delete;
    MetricsServer& operator=(const MetricsServer&) = delete;
    ~MetricsServer();

    [[nodiscard]] const std::shared_ptr<prometheus::Registry>& registry() const { return registry_; }
    [[nodiscard]] const std::shared_ptr<Heartbeat>& heartbeat() const { return heartbeat_; }
    [[nodiscard]] std::uint16_t port() const;  // that it listens on

private:
    MetricsServer();
    std::shared_ptr<prometheus::Registry> registry_;
    std::shared_ptr<Heartbeat> heartbeat_;
    std::unique_ptr<HttpServer> http_;
};

// Of conflicts and of verdicts with their Service there are this many time series at most; the others are one together.
inline constexpr std::size_t most_metric_series = 100;

// version: of hptrace. heartbeat: gets a beat at every turn of the trace; null: nobody asks.
std::unique_ptr<Output> make_metrics_output(std::shared_ptr<prometheus::Registry> registry, const std::string& version,
                                            std::shared_ptr<Heartbeat> heartbeat = nullptr);

}  // namespace hptrace
