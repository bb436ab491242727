// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/pod_source.hpp"

#include <algorithm>
#include <utility>

#include "base/clock.hpp"
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

PodFolders PodFolders::below(NodeRoot root) {
    PodFolders folders;
    folders.root = std::move(root);
    return folders;
}

PodSource::PodSource(PodFolders folders, Watching watching) : folders_(std::move(folders)) {
    if (watching == Watching::yes) {
        watch_.emplace(folders_.root, std::vector<WatchedFolder>{{.path = folders_.cni_results},
                                                                 {.path = folders_.host_local, .subfolders = true},
                                                                 {.path = folders_.kubelet_pods, .subfolders = true},
                                                                 {.path = folders_.pod_logs}});
    }
}

bool PodSource::read(const RootFolder& root) {
    const auto& [_, cni, host_local, pods, logs] = folders_;
    bool different = update(cni_, cni_cache_version(root, cni), [&] { return read_cni_cache(root, cni); });
    different |=
        update(host_local_, host_local_version(root, host_local), [&] { return read_host_local(root, host_local); });
    different |=
        update(kubelet_, kubelet_pods_version(root, pods, logs), [&] { return read_kubelet_pods(root, pods, logs); });
    return different;
}

bool PodSource::read_nothing(const Error& why) {
    Fingerprint print;
    print.add(why.code);
    const auto status = is_absent(why) ? SourceStatus() : unreadable(folders_.root.path(), why);
    bool different =
        update(cni_, print.value(), [&] { return CniCache{.sandboxes = {}, .complete = false, .status = status}; });
    different |= update(host_local_, print.value(), [&] { return HostLocal{.reservations = {}, .status = status}; });
    different |= update(kubelet_, print.value(), [&] { return KubeletPods{.pods = {}, .status = status}; });
    return different;
}

std::optional<Pods> PodSource::news() {
    if (watch_) {
        if (watch_->news() == FolderWatch::News::none) {
            return std::nullopt;
        }
        watch_->watch();
    }
    const auto root = folders_.root.open();
    folder_times_ = folder_times(root);
    const bool different = root ? read(*root) : read_nothing(root.error());
    if (!different) {
        return std::nullopt;
    }
    note_gone();
    return together();
}

bool PodSource::announced() {
    const auto news = watch_ ? watch_->news() : FolderWatch::News::unknown;
    return news == FolderWatch::News::unknown ? folder_times(folders_.root.open()) != folder_times_
                                              : news == FolderWatch::News::some;
}

std::uint64_t PodSource::folder_times(const Result<RootFolder>& root) const {
    Fingerprint print;
    for (const auto& folder : {folders_.cni_results, folders_.kubelet_pods, folders_.pod_logs}) {
        print.add(root ? NodeFiles(*root).folder_time(folder) : 0);
    }
    return print.value();
}

// An empty cache, or one that is not all readable, says of nobody that he is gone.
void PodSource::note_gone() {
    constexpr std::size_t most_gone = 4096;  // then those that went first are forgotten
    if (!cni_.content.complete || cni_.content.sandboxes.empty()) {
        return;
    }
    std::set<std::string> cached;
    for (const auto& sandbox : cni_.content.sandboxes) {
        cached.insert(sandbox.container_id);
        gone_.erase(sandbox.container_id);
    }
    for (const auto& id : cached_) {
        if (!cached.contains(id)) {
            gone_.emplace(id, boot_clock_ns());
        }
        if (gone_.size() > most_gone) {
            gone_.erase(std::ranges::min_element(gone_, {}, [](const auto& entry) { return entry.second; }));
        }
    }
    cached_ = std::move(cached);
}

Pods PodSource::together() const {
    return {.sandboxes = put_together(cni_.content.sandboxes, host_local_.content.reservations, kubelet_.content.pods),
            .sandboxes_complete = cni_.content.complete,
            .gone_sandboxes = gone_,
            .sources = {{"cni", cni_.content.status},
                        {"host-local", host_local_.content.status},
                        {"kubelet", kubelet_.content.status}}};
}

}  // namespace hptrace
