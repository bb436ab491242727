// SPDX-License-Identifier: GPL-2.0-or-later
#include "names/kube_names.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <exception>
#include <system_error>
#include <utility>

#include "base/memory.hpp"
#include "base/signals_blocked.hpp"

namespace hptrace {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

}  // namespace

Result<std::unique_ptr<KubeNames>> KubeNames::start(KubeLister list, Timing timing) {
    std::unique_ptr<KubeNames> names(new KubeNames(std::move(list), timing));
    try {
        const SignalsBlocked blocked;
        names->thread_ = std::jthread([here = names.get()](const std::stop_token& stop) { here->run(stop); });
    } catch (const std::system_error& error) {
        return system_error("cannot start a thread for the Kubernetes API", error.code().value());
    }
    return names;
}

ClusterNamesPtr KubeNames::names() const {
    const std::scoped_lock lock(mutex_);
    return names_;
}

std::optional<std::string> KubeNames::news() {
    const std::scoped_lock lock(mutex_);
    return std::exchange(news_, std::nullopt);
}

bool KubeNames::wait_for_first_list(milliseconds limit) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, limit, [this] { return tried_; });
}

void KubeNames::run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
        auto listing = list_now(stop);
        if (stop.stop_requested()) {
            return;
        }
        const auto pause = delay(!listing.names);
        take(std::move(listing));
        give_back_memory();  // the lists' text and JSON
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, stop, pause, [] { return false; });
    }
}

KubeListing KubeNames::list_now(const std::stop_token& stop) {
    try {
        return list_(stop);
    } catch (const std::exception& error) {  // no memory for a list: no reason to end the trace
        return {.names = nullptr, .failures = {error.what()}};
    }
}

void KubeNames::take(KubeListing listing) {
    const auto now = Clock::now();
    const auto why = fmt::format("{}", fmt::join(listing.failures, "; "));
    const std::scoped_lock lock(mutex_);
    std::string problem;
    if (listing.names) {
        names_ = std::move(listing.names);
        listed_ = now;
        problem = why.empty() ? "" : fmt::format("some names from the Kubernetes API are missing: {}", why);
    } else if (names_ && now - listed_ < timing_.longest_use) {
        problem = fmt::format("names from the Kubernetes API are not renewed: {}", why);
    } else {
        names_.reset();
        problem = fmt::format("names from the Kubernetes API are missing: {}", why);
    }
    if (problem != problem_) {
        news_ = problem.empty() ? "names from the Kubernetes API are there again" : problem;
        problem_ = std::move(problem);
    }
    tried_ = true;
    changed_.notify_all();
}

milliseconds KubeNames::delay(bool failed) {
    backoff_ = !failed                 ? milliseconds(0)
               : backoff_.count() == 0 ? timing_.first_backoff
                                       : std::min(backoff_ * 2, timing_.longest_backoff);
    const auto whole = failed ? backoff_ : timing_.interval;
    std::uniform_int_distribution<milliseconds::rep> around(whole.count() - whole.count() / 10,
                                                            whole.count() + whole.count() / 10);
    return milliseconds(around(random_));
}

}  // namespace hptrace
