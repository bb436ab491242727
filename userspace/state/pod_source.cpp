// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/pod_source.hpp"

#include <utility>

#include "base/fingerprint.hpp"
#include "state/node_files.hpp"
#include "state/sandboxes.hpp"

namespace hptrace {

namespace {

// True: it is different now. The version is that of before the reading: what changes meanwhile is read next time.
template <class Part, class Read>
bool update(Part& part, std::uint64_t version, Read read) {
    if (part.version == version) {
        return false;
    }
    part.version = version;
    part.content = read();
    return true;
}

}  // namespace

PodFolders PodFolders::below(const std::filesystem::path& root) {
    return {.cni_results = root / "var/lib/cni/results",
            .host_local = root / "var/lib/cni/networks",
            .kubelet_pods = root / "var/lib/kubelet/pods",
            .pod_logs = root / "var/log/pods"};
}

PodSource::PodSource(PodFolders folders, Watching watching) : folders_(std::move(folders)) {
    if (watching == Watching::yes) {
        watch_.emplace(std::vector<WatchedFolder>{{.path = folders_.cni_results},
                                                  {.path = folders_.host_local, .subfolders = true},
                                                  {.path = folders_.kubelet_pods, .subfolders = true},
                                                  {.path = folders_.pod_logs}});
    }
}

std::optional<Pods> PodSource::news() {
    if (watch_) {
        if (watch_->news() == FolderWatch::News::none) {
            return std::nullopt;
        }
        watch_->watch();
    }
    folder_times_ = folder_times();
    bool different =
        update(cni_, cni_cache_version(folders_.cni_results), [this] { return read_cni_cache(folders_.cni_results); });
    different |= update(host_local_, host_local_version(folders_.host_local),
                        [this] { return read_host_local(folders_.host_local); });
    different |= update(kubelet_, kubelet_pods_version(folders_.kubelet_pods, folders_.pod_logs),
                        [this] { return read_kubelet_pods(folders_.kubelet_pods, folders_.pod_logs); });
    return different ? std::optional(together()) : std::nullopt;
}

bool PodSource::announced() {
    const auto news = watch_ ? watch_->news() : FolderWatch::News::unknown;
    return news == FolderWatch::News::unknown ? folder_times() != folder_times_ : news == FolderWatch::News::some;
}

std::uint64_t PodSource::folder_times() const {
    Fingerprint print;
    for (const auto& folder : {folders_.cni_results, folders_.kubelet_pods, folders_.pod_logs}) {
        print.add(folder_time(folder));
    }
    return print.value();
}

Pods PodSource::together() const {
    return {.sandboxes = put_together(cni_.content.sandboxes, host_local_.content.reservations, kubelet_.content.pods),
            .sandboxes_complete = cni_.content.complete,
            .sources = {{"cni", cni_.content.status},
                        {"host-local", host_local_.content.status},
                        {"kubelet", kubelet_.content.status}}};
}

}  // namespace hptrace
