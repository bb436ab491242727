// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <utility>

#include "base/error.hpp"
#include "base/root_folder.hpp"

namespace hptrace {

// Where a node's files are. Opened anew for each reading and never kept open: an open folder keeps the file systems of
// a container alive after its end.
class NodeRoot {
public:
    NodeRoot(std::filesystem::path path) : path_(std::move(path)) {}  // NOLINT(google-explicit-constructor): it is one
    static NodeRoot of_process(pid_t pid);

    [[nodiscard]] const std::filesystem::path& path() const { return path_; }
    // Error: errno. Of a process: ESRCH, it has ended; EPERM, its root is not to be trusted: whoever may make a user
    // namespace mounts in it what he likes where he likes, also what he cannot read himself, and this program can.
    [[nodiscard]] Result<RootFolder> open() const;

private:
    std::filesystem::path path_;
    std::optional<pid_t> process_;  // whose root it is
};

// The root of the node that a process belongs to: the process's own, if libcni keeps its cache there (kind's nodes are
// containers) and it is to be trusted, else `host_root`, where this process sees the root of its node.
NodeRoot node_root_of(std::optional<pid_t> pid, const std::filesystem::path& host_root);
// Where this process sees the root of its node: "/host" in a container that has the node's CNI folder there and none of
// its own (kubectl debug node/...), else "/".
std::filesystem::path detect_host_root();

}  // namespace hptrace
