// SPDX-License-Identifier: GPL-2.0-or-later
// The state of a trace as Prometheus scrapes it. prometheus-cpp serves it, in threads of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/error.hpp"
#include "output/output.hpp"

namespace prometheus {
class Exposer;
class Registry;
}  // namespace prometheus

namespace hptrace {

// Serves metrics from its creation on; what they are comes with outputs made from it.
class MetricsServer {
public:
    // address: "127.0.0.1:9755", "[::1]:9755"; port 0: any. Listens in the network namespace of the calling thread.
    // An error if it cannot, as when the port is taken.
    static Result<MetricsServer> start(const std::string& address);

    MetricsServer(MetricsServer&&) noexcept;
    MetricsServer& operator=(MetricsServer&&) noexcept;
    MetricsServer(const MetricsServer&) = delete;
    MetricsServer& operator=(const MetricsServer&) = delete;
    ~MetricsServer();

    [[nodiscard]] const std::shared_ptr<prometheus::Registry>& registry() const { return registry_; }

private:
    MetricsServer();
    std::shared_ptr<prometheus::Registry> registry_;
    std::unique_ptr<prometheus::Exposer> exposer_;
};

// Of conflicts and of verdicts with their Service there are this many time series at most; the others are one together.
inline constexpr std::size_t most_metric_series = 100;

// version: of hptrace.
std::unique_ptr<Output> make_metrics_output(std::shared_ptr<prometheus::Registry> registry, const std::string& version);

}  // namespace hptrace
