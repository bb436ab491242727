// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "state/cni_cache.hpp"
#include "state/folder_watch.hpp"
#include "state/host_local.hpp"
#include "state/kubelet_pods.hpp"
#include "state/node_root.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// Where a node has what names its pods: the default places, below its root.
struct PodFolders {
    NodeRoot root = std::filesystem::path("/");
    std::filesystem::path cni_results = "var/lib/cni/results";    // libcni's cache
    std::filesystem::path host_local = "var/lib/cni/networks";    // what host-local gave out
    std::filesystem::path kubelet_pods = "var/lib/kubelet/pods";  // kubelet's, by uid
    std::filesystem::path pod_logs = "var/log/pods";              // names, with the uid

    static PodFolders below(NodeRoot root);
    static PodFolders below(const std::filesystem::path& root) { return below(NodeRoot(root)); }
};

// Members as in NodeState.
struct Pods {
    std::vector<Sandbox> sandboxes;
    bool sandboxes_complete = false;
    std::map<std::string, std::uint64_t, std::less<>> gone_sandboxes;
    std::map<std::string, SourceStatus> sources;
};

// Reads them again and again, each time only what has changed.
class PodSource {
public:
    enum class Watching : std::uint8_t {
        no,  // every call of news() looks at all files' names, sizes and times
        yes  // only after inotify has told of something, or where it cannot
    };

    PodSource(PodFolders folders, Watching watching);

    // All that is known, if it is other than the last time; nothing before the first one.
    std::optional<Pods> news();
    // Would news() look at files, because some have changed? Cheap enough to ask at any time. Where inotify does not
    // tell it goes by the times of folders: what is written to a file that is there already goes unnoticed.
    [[nodiscard]] bool announced();

private:
    template <class T>
    struct Part {
        std::optional<std::uint64_t> version;
        T content;
    };

    // Reads them where they may have changed. Is anything different now?
    bool read(const RootFolder& root);
    bool read_nothing(const Error& why);
    [[nodiscard]] std::uint64_t folder_times(const Result<RootFolder>& root) const;
    [[nodiscard]] Pods together() const;
    void note_gone();

    PodFolders folders_;
    std::optional<FolderWatch> watch_;
    std::uint64_t folder_times_ = 0;
    Part<CniCache> cni_;
    std::set<std::string> cached_;                            // containers that were in the cache when it was read
    std::map<std::string, std::uint64_t, std::less<>> gone_;  // and of those that went: CLOCK_BOOTTIME
    Part<HostLocal> host_local_;
    Part<KubeletPods> kubelet_;
};

}  // namespace hptrace
