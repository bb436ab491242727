// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/cni_cache.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "base/fingerprint.hpp"
#include "state/node_files.hpp"

namespace hptrace {

namespace {

using nlohmann::json;

bool same_ignoring_case(std::string_view a, std::string_view b) {
    return std::ranges::equal(a, b,
                              [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// Container runtimes spell keys differently ("hostPort", "HostPort"). Null: no such key, or not an object.
const json* find_member(const json& object, std::string_view key) {
    if (!object.is_object()) {
        return nullptr;
    }
    for (const auto& [name, value] : object.items()) {
        if (same_ignoring_case(name, key)) {
            return &value;
        }
    }
    return nullptr;
}

std::string text_member(const json& object, std::string_view key) {
    const auto* const member = find_member(object, key);
    return member != nullptr && member->is_string() ? member->get<std::string>() : std::string();
}

void add_unique(const Address& ip, std::vector<Address>& ips) {
    if (std::ranges::find(ips, ip) == ips.end()) {
        ips.push_back(ip);
    }
}

void add_address(std::string_view text, std::vector<Address>& ips) {
    const auto prefix = parse_prefix(text);
    if (prefix && !prefix->address.is_loopback()) {
        add_unique(prefix->address, ips);
    }
}

std::vector<Address> result_addresses(const json& result) {
    std::vector<Address> ips;
    if (const auto* const list = find_member(result, "ips"); list != nullptr && list->is_array()) {
        for (const auto& entry : *list) {
            add_address(text_member(entry, "address"), ips);
        }
    }
    for (const auto* const key : {"ip4", "ip6"}) {  // CNI 0.2
        if (const auto* const entry = find_member(result, key)) {
            add_address(text_member(*entry, "ip"), ips);
        }
    }
    return ips;
}

// [["K8S_POD_NAMESPACE","default"], …], in no particular order
std::string cni_arg(const json& cache, std::string_view name) {
    const auto* const args = find_member(cache, "cniArgs");
    if (args == nullptr || !args->is_array()) {
        return {};
    }
    for (const auto& pair : *args) {
        if (pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string() &&
            same_ignoring_case(pair[0].get_ref<const std::string&>(), name)) {
            return pair[1].get<std::string>();
        }
    }
    return {};
}

struct NameParts {
    std::string network;
    std::string container_id;
};

bool is_sandbox_id(std::string_view text) {
    return text.size() == 64 && std::ranges::all_of(text, [](unsigned char c) { return std::isxdigit(c) != 0; });
}

// "<network>-<container>-<interface>", where the network's name may hold dashes too, and so may the interface's.
NameParts split_file_name(std::string_view name) {
    for (std::size_t start = name.find('-'); start != std::string_view::npos; start = name.find('-', start + 1)) {
        const auto part = name.substr(start + 1, name.find('-', start + 1) - start - 1);
        if (is_sandbox_id(part)) {
            return {.network = std::string(name.substr(0, start)), .container_id = std::string(part)};
        }
    }
    const auto interface_at = name.rfind('-');
    const auto container_at =
        interface_at == std::string_view::npos || interface_at == 0 ? interface_at : name.rfind('-', interface_at - 1);
    if (container_at == std::string_view::npos || container_at == 0 || container_at == interface_at) {
        return {};
    }
    return {.network = std::string(name.substr(0, container_at)),
            .container_id = std::string(name.substr(container_at + 1, interface_at - container_at - 1))};
}

// Another interface or network of the same container.
void merge(const Sandbox& from, Sandbox& into) {
    // The network that gave the container its addresses, not the loopback one.
    if (into.ips.empty() && !from.ips.empty()) {
        into.network = from.network;
    }
    for (const auto& ip : from.ips) {
        add_unique(ip, into.ips);
    }
    const auto fill = [](std::string& text, const std::string& other) {
        if (text.empty()) {
            text = other;
        }
    };
    fill(into.pod_namespace, from.pod_namespace);
    fill(into.pod_name, from.pod_name);
    fill(into.pod_uid, from.pod_uid);
    into.since_ns = from.since_ns;
}

}  // namespace

Result<Sandbox> parse_cni_result(std::string_view text, std::string_view file_name) {
    const auto content = json::parse(text, nullptr, false);
    if (!content.is_object()) {
        return failure("not a JSON object");
    }
    const bool with_cache_header = text_member(content, "kind").starts_with("cniCacheV");
    const auto* const result = with_cache_header ? find_member(content, "result") : &content;
    const auto from_name = split_file_name(file_name);
    Sandbox sandbox;
    if (with_cache_header) {
        sandbox.container_id = text_member(content, "containerId");
        sandbox.network = text_member(content, "networkName");
        sandbox.pod_namespace = cni_arg(content, "K8S_POD_NAMESPACE");
        sandbox.pod_name = cni_arg(content, "K8S_POD_NAME");
        sandbox.pod_uid = cni_arg(content, "K8S_POD_UID");
    } else if (find_member(content, "cniVersion") == nullptr && find_member(content, "ip4") == nullptr &&
               find_member(content, "ip6") == nullptr && find_member(content, "ips") == nullptr) {
        return failure("neither a cniCacheV1 entry nor a CNI result");
    }
    if (sandbox.container_id.empty()) {
        sandbox.container_id = from_name.container_id;
    }
    if (sandbox.network.empty()) {
        sandbox.network = from_name.network;
    }
    if (sandbox.container_id.empty()) {
        return failure("no container id, neither inside nor in the file's name");
    }
    if (result != nullptr) {
        sandbox.ips = result_addresses(*result);
    }
    return sandbox;
}

CniCache read_cni_cache(const std::filesystem::path& folder) {
    const auto read = read_node_folder(folder);
    if (!read) {
        return {.sandboxes = {},
                .complete = false,
                .status = {.state = SourceState::unreadable, .why = describe(read.error())}};
    }
    CniCache cache;
    const auto& names = *read;
    if (!names) {
        return cache;
    }
    std::vector<std::string> problems;
    std::vector<Sandbox> entries;
    for (const auto& name : *names) {
        const auto file = read_node_file(folder / name);
        if (!file) {
            problems.push_back(describe(file.error()));
            continue;
        }
        const auto& found = *file;
        if (!found) {
            continue;
        }
        auto sandbox = parse_cni_result(found->content, name);
        if (!sandbox) {
            problems.push_back(fmt::format("{}: {}", name, describe(sandbox.error())));
            continue;
        }
        sandbox->since_ns = found->written_ns;
        entries.push_back(*std::move(sandbox));
    }
    std::ranges::stable_sort(entries, {}, &Sandbox::since_ns);
    std::map<std::string, std::size_t> by_id;
    for (auto& entry : entries) {
        const auto [known, is_new] = by_id.try_emplace(entry.container_id, cache.sandboxes.size());
        if (is_new) {
            cache.sandboxes.push_back(std::move(entry));
        } else {
            merge(entry, cache.sandboxes[known->second]);
        }
    }
    cache.complete = problems.empty();
    cache.status = status_with(std::move(problems), folder);
    return cache;
}

std::uint64_t cni_cache_version(const std::filesystem::path& folder) {
    Fingerprint print;
    for (const auto& name : add_folder_version(folder, print)) {
        add_file_version(folder / name, print);
    }
    return print.value();
}

}  // namespace hptrace
