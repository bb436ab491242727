// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/kube.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>

#include "cli/run.hpp"

namespace hptrace {

std::string kube_node_name() {
    if (const char* const name = std::getenv("NODE_NAME"); name != nullptr && *name != '\0') {
        return name;
    }
    std::array<char, 256> host{};
    if (::gethostname(host.data(), host.size() - 1) != 0) {
        return {};
    }
    std::string name = host.data();
    std::ranges::transform(name, name.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return name;
}

Result<std::unique_ptr<KubeNames>> start_kube_names(const std::optional<KubeConfig>& config, const std::string& node) {
    if (!config) {
        return nullptr;
    }
    auto lister = make_kube_lister(*config, node);
    if (!lister) {
        return std::unexpected(lister.error());
    }
    return KubeNames::start(*std::move(lister), KubeNames::Timing());
}

void await_first_names(KubeNames& names) {
    constexpr std::chrono::seconds longest(10);
    if (!names.wait_for_first_list(longest)) {
        note(fmt::format("names from the Kubernetes API are missing: it has not listed them within {} s",
                         longest.count()));
    }
    if (const auto news = names.news()) {
        note(*news);
    }
}

}  // namespace hptrace
