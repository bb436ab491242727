// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/sentences.hpp"

#include <fmt/format.h>

#include "judge/words.hpp"

namespace hptrace {

std::string counted(std::size_t count, std::string_view noun) {
    return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string kind_and_name(const Service& service) {
    std::string text(to_string(service.kind));
    if (service.name) {
        text += " " + full_name(*service.name);
        if (!service.name->port.empty()) {
            text += ":" + service.name->port;
        }
    }
    return text;
}

std::string wanted_text(const Service& service) {
    return fmt::format("{}/{} ({})", destination_text(service), to_string(service.protocol), kind_and_name(service));
}

std::string taker_text(const Conflict& conflict) {
    return fmt::format("{}hostPort {} of {}", conflict.leftover == LeftOver::yes ? "a left over " : "",
                       conflict.service.port, owner_text(conflict.rule, conflict.rule_pod));
}

std::string rule_text(const HostPortRule& rule) {
    const auto chain = rule.entry_chain.empty() || rule.entry_chain == rule.chain
                           ? rule.chain
                           : fmt::format("{} > {}", rule.entry_chain, rule.chain);
    return fmt::format("{} ({}{})", chain, to_string(rule.backend),
                       rule.backend == Backend::nftables ? " " + rule.table : "");
}

}  // namespace hptrace
