// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "names/kube_names.hpp"

namespace hptrace::test {

// Until `condition`; false after a minute.
inline bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 6000; ++i) {
        if (condition()) {
            return true;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
}

// The next line that is told; empty after a minute.
inline std::string next_news(KubeNames& names) {
    std::optional<std::string> news;
    CHECK(eventually([&] { return (news = names.news()).has_value(); }));
    return news.value_or("");
}

}  // namespace hptrace::test
