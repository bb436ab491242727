// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <filesystem>
#include <string>

#include "state/kubelet_pods.hpp"
#include "state/values.hpp"
#include "temporary_folder.hpp"

namespace hptrace {

using test::whole_node;

// The hosts file kubelet writes for a pod, with these as the pod's own lines.
inline std::string etc_hosts(const std::string& own) {
    return "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
           "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n" +
           own;
}

// What kubelet leaves of pods: "pods" and "logs".
class KubeletFolder {
public:
    KubeletFolder() {
        std::filesystem::create_directory(pods());
        std::filesystem::create_directory(logs());
    }

    [[nodiscard]] const TemporaryFolder& folder() const { return folder_; }
    [[nodiscard]] std::filesystem::path pods() const { return folder_.path() / "pods"; }
    [[nodiscard]] std::filesystem::path logs() const { return folder_.path() / "logs"; }

    // `order`: see TemporaryFolder::write().
    void add_pod(const std::string& uid, const std::string& ip, int order = 0) const {
        std::filesystem::create_directory(pods() / uid);
        folder_.write("pods/" + uid + "/etc-hosts", etc_hosts(ip + "\t" + uid + "\n"), order);
    }
    void add_log(const std::string& name) const { std::filesystem::create_directory(logs() / name); }

    [[nodiscard]] KubeletPods read() const { return read_kubelet_pods(whole_node(), pods(), logs()); }

private:
    TemporaryFolder folder_;
};

}  // namespace hptrace
