// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/root_folder.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// A pod that kubelet has started a container of, and not removed yet. It may have ended, and its address be another's.
struct KubeletPod {
    std::string ns;
    std::string name;
    std::string uid;
    std::vector<Address> ips;
    std::int64_t written_ns = 0;  // when it was last told its addresses: with the last start of one of its containers
};

struct KubeletPods {
    std::vector<KubeletPod> pods;  // those with addresses of their own
    SourceStatus status;           // unused: no such folder
};

// What kubelet leaves on the node of its pods:
// - <pods>/<uid>/etc-hosts, what a pod's containers see as /etc/hosts, written anew when one of them is started
//   (kubernetes, pkg/kubelet/kubelet_pods.go: makeMounts, ensureHostsFile, managedHostsFileContent). Only after the
//   sandbox has its network: who has none yet has no such file.
// - <logs>/<namespace>_<name>_<uid>/ (pkg/kubelet/kuberuntime/helpers.go: BuildPodLogsDirectory). Neither of the three
//   can hold a "_".
// A uid with two names has none. Files that are unreadable are skipped and make the status unreadable; of what a
// container appended to its hosts file nothing is looked at.
KubeletPods read_kubelet_pods(const RootFolder& root, const std::filesystem::path& pods,
                              const std::filesystem::path& logs);

// Differs when read_kubelet_pods() would find something else; no file is opened.
std::uint64_t kubelet_pods_version(const RootFolder& root, const std::filesystem::path& pods,
                                   const std::filesystem::path& logs);

// The addresses a pod's own hosts file gives to its own name: one of each family at most. None in that of a pod on the
// host's network, which is the node's own file under another first line, and in one that kubelet does not manage.
// Containers can write to it, so this is no more than what the pod says of itself (Sandbox::named_by_itself).
std::vector<Address> parse_etc_hosts(std::string_view text);

}  // namespace hptrace
