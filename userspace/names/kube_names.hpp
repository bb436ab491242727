// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <stop_token>
#include <string>
#include <thread>

#include "base/error.hpp"
#include "names/cluster_names.hpp"
#include "names/kube_list.hpp"

namespace hptrace {

// Lists the cluster again and again in a thread of its own. Nothing here waits for the API, but wait_for_first_list()
// and, for a moment, the end.
class KubeNames {
public:
    struct Timing {
        std::chrono::milliseconds interval{30'000};  // within a tenth, so that nodes do not ask all at once
        std::chrono::milliseconds first_backoff{2'000};
        std::chrono::milliseconds longest_backoff{300'000};
        std::chrono::milliseconds longest_use{900'000};  // names that old are no longer given: addresses are reused
    };

    // The thread is in the network namespace of the caller, whatever that enters later, and takes no signals. Error:
    // there is no thread to be had.
    static Result<std::unique_ptr<KubeNames>> start(KubeLister list, Timing timing);
    KubeNames(const KubeNames&) = delete;
    KubeNames(KubeNames&&) = delete;
    KubeNames& operator=(const KubeNames&) = delete;
    KubeNames& operator=(KubeNames&&) = delete;
    ~KubeNames() = default;  // stops the thread

    // As last listed; null: nothing was, or not for long.
    [[nodiscard]] ClusterNamesPtr names() const;
    // A line for people, once: that names are missing and why, or that they are there again.
    std::optional<std::string> news();
    // Until the first list has come or failed. False: neither has, within this time.
    bool wait_for_first_list(std::chrono::milliseconds limit);

private:
    KubeNames(KubeLister list, Timing timing) : list_(std::move(list)), timing_(timing) {}
    void run(const std::stop_token& stop);
    KubeListing list_now(const std::stop_token& stop);
    void take(KubeListing listing);
    std::chrono::milliseconds delay(bool failed);

    KubeLister list_;
    Timing timing_;
    std::minstd_rand random_{std::random_device{}()};
    std::chrono::milliseconds backoff_{0};  // 0: the last list came
    std::chrono::steady_clock::time_point listed_;

    mutable std::mutex mutex_;
    std::condition_variable_any changed_;
    bool tried_ = false;
    ClusterNamesPtr names_;
    std::string problem_;  // as last told; empty: none
    std::optional<std::string> news_;

    std::jthread thread_;  // last: it uses all of the above
};

}  // namespace hptrace
