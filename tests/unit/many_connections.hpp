// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <fstream>

#include "state/fresh_netns.hpp"
#include "temporary_folder.hpp"

// Puts rewritten connections into conntrack of the calling thread's namespace: from 10.224.0.1:1024, :1025 and so on to
// 10.96.0.1:80, which became 10.224.0.9:8080.
inline void make_connections(std::size_t count) {
    const hptrace::TemporaryFolder folder;
    const auto path = folder.path() / "entries";
    {
        std::ofstream file(path);
        for (std::size_t i = 0; i < count; ++i) {
            file << "-A -p tcp --state ESTABLISHED --timeout 600 -s 10.224.0.1 -d 10.96.0.1 --sport " << 1024 + i
                 << " --dport 80 --dst-nat 10.224.0.9:8080\n";
        }
    }
    run(fmt::format("conntrack --load-file {} >/dev/null 2>&1", path.native()));
}
