// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <catch2/catch_test_macros.hpp>
#include <optional>
#include <string>

#include "await.hpp"
#include "names/kube_names.hpp"

namespace hptrace::test {

// The next line that is told; empty after a minute.
inline std::string next_news(KubeNames& names) {
    std::optional<std::string> news;
    CHECK(eventually([&] { return (news = names.news()).has_value(); }));
    return news.value_or("");
}

}  // namespace hptrace::test
