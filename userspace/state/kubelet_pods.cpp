// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/kubelet_pods.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "base/fingerprint.hpp"
#include "state/node_files.hpp"

namespace hptrace {

namespace {

constexpr std::string_view hosts_file = "etc-hosts";
constexpr std::size_t most_of_hosts_file = 4096;  // the pod's own lines are its first

std::string_view take_line(std::string_view& text) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return line;
}

// "::1 localhost ip6-localhost", "fe00::0 ip6-localnet", ...: what every pod has before its own lines.
bool is_everyones(const Address& ip) {
    return ip.is_loopback() || (ip.family == Family::ipv6 && ip.bytes[0] == 0xfe && ip.bytes[1] == 0);
}

struct PodName {
    std::string ns;
    std::string name;
};

// By uid; nothing: it has more than one.
using PodNames = std::map<std::string, std::optional<PodName>, std::less<>>;

PodNames names_of(const std::vector<std::string>& log_folders) {
    PodNames names;
    for (const auto& folder : log_folders) {
        const auto name_at = folder.find('_');
        const auto uid_at = folder.rfind('_');
        if (name_at == std::string::npos || uid_at <= name_at + 1 || name_at == 0 || uid_at + 1 == folder.size()) {
            continue;
        }
        PodName name{.ns = folder.substr(0, name_at), .name = folder.substr(name_at + 1, uid_at - name_at - 1)};
        if (name.name.contains('_')) {
            continue;
        }
        const auto [known, is_new] = names.try_emplace(folder.substr(uid_at + 1), std::move(name));
        if (!is_new) {
            known->second.reset();
        }
    }
    return names;
}

}  // namespace

std::vector<Address> parse_etc_hosts(std::string_view text) {
    if (take_line(text) != "# Kubernetes-managed hosts file.") {
        return {};
    }
    std::vector<Address> ips;
    std::string_view own_names;
    while (!text.empty()) {
        const auto line = take_line(text);
        const auto tab = line.find('\t');
        const auto ip = parse_address(line.substr(0, tab));
        if (!ip || tab == std::string_view::npos) {
            break;  // the end of it: aliases come after an empty line
        }
        if (is_everyones(*ip)) {
            continue;
        }
        const auto names = line.substr(tab + 1);
        const bool second = std::ranges::any_of(ips, [&](const Address& other) { return other.family == ip->family; });
        if (second || (!ips.empty() && names != own_names)) {
            break;  // somebody's addition
        }
        own_names = names;
        ips.push_back(*ip);
    }
    return ips;
}

KubeletPods read_kubelet_pods(const RootFolder& root, const std::filesystem::path& pods,
                              const std::filesystem::path& logs) {
    NodeFiles files(root);
    const auto uids = files.names(pods);
    const auto log_folders = files.names(logs);
    if (!uids || !log_folders) {
        return {.pods = {},
                .status = uids ? unreadable(root.path(logs), log_folders.error())
                               : unreadable(root.path(pods), uids.error())};
    }
    const auto& folders = *uids;
    if (!folders) {
        return {};
    }
    KubeletPods found;
    Problems problems;
    const auto names = names_of(log_folders->value_or(std::vector<std::string>()));
    for (const auto& uid : *folders) {
        const auto known = names.find(uid);
        if (known == names.end()) {
            continue;
        }
        const auto& name = known->second;
        const auto read = files.read(pods / uid / hosts_file, most_of_hosts_file);
        if (!read) {
            problems.add(fmt::format("{}/{}: {}", uid, hosts_file, describe(read.error())));
            continue;
        }
        const auto& file = *read;
        if (!name || !file) {
            continue;
        }
        if (auto ips = parse_etc_hosts(file->text); !ips.empty()) {
            found.pods.push_back({.ns = name->ns,
                                  .name = name->name,
                                  .uid = uid,
                                  .ips = std::move(ips),
                                  .written_ns = file->written_ns});
        }
    }
    found.status = problems.status(root.path(pods));
    return found;
}

std::uint64_t kubelet_pods_version(const RootFolder& root, const std::filesystem::path& pods,
                                   const std::filesystem::path& logs) {
    NodeFiles files(root);
    Fingerprint print;
    for (const auto& uid : files.add_folder_version(pods, print)) {
        files.add_file_version(pods / uid / hosts_file, print);
    }
    files.add_folder_version(logs, print);
    return print.value();
}

}  // namespace hptrace
