// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/cni_cache.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "base/fingerprint.hpp"
#include "state/cni_result.hpp"
#include "state/node_files.hpp"

namespace hptrace {

namespace {

void add_unique(const Address& ip, std::vector<Address>& ips) {
    if (std::ranges::find(ips, ip) == ips.end()) {
        ips.push_back(ip);
    }
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

// Of one file. Nothing: it is none.
std::optional<Sandbox> read_entry(NodeFiles& files, const std::filesystem::path& folder, const std::string& name,
                                  Problems& problems) {
    const auto read = files.read(folder / name, most_of_cni_result);
    if (!read) {
        problems.add(fmt::format("{}: {}", name, describe(read.error())));
        return std::nullopt;
    }
    const auto& file = *read;
    if (!file) {
        return std::nullopt;
    }
    auto sandbox = parse_cni_result(file->text, name, file->cut_off ? CutOff::yes : CutOff::no);
    if (!sandbox) {
        problems.add(fmt::format("{}: {}", name, describe(sandbox.error())));
        return std::nullopt;
    }
    if (file->cut_off && sandbox->ips.empty()) {
        problems.add(fmt::format("{}: so long that its addresses were not read", name));
    }
    sandbox->since_ns = file->written_ns;
    return *std::move(sandbox);
}

}  // namespace

CniCache read_cni_cache(const RootFolder& root, const std::filesystem::path& folder) {
    NodeFiles files(root);
    const auto read = files.names(folder);
    if (!read) {
        return {.sandboxes = {}, .complete = false, .status = unreadable(root.path(folder), read.error())};
    }
    CniCache cache;
    const auto& names = *read;
    if (!names) {
        return cache;
    }
    Problems problems;
    std::vector<Sandbox> entries;
    for (const auto& name : *names) {
        if (auto entry = read_entry(files, folder, name, problems)) {
            entries.push_back(*std::move(entry));
        }
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
    cache.status = problems.status(root.path(folder));
    return cache;
}

CniCache read_cni_cache(const std::filesystem::path& root) {
    const auto opened = RootFolder::open(root);
    if (!opened) {
        CniCache none;
        if (opened.error().code != ENOENT) {
            none.status = unreadable(root, opened.error());
        }
        return none;
    }
    return read_cni_cache(*opened, {});
}

std::uint64_t cni_cache_version(const RootFolder& root, const std::filesystem::path& folder) {
    NodeFiles files(root);
    Fingerprint print;
    for (const auto& name : files.add_folder_version(folder, print)) {
        files.add_file_version(folder / name, print);
    }
    return print.value();
}

}  // namespace hptrace
