// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "hptrace/record.h"

namespace hptrace {

// The maps that all BPF objects share, created here once: an object that comes later, or a second one for another probe
// mode, gets the same. Closing them is all it takes to remove them.
class SharedMaps {
public:
    // Errors: as bpf(BPF_MAP_CREATE) and mmap.
    static Result<SharedMaps> create();

    SharedMaps(SharedMaps&& other) noexcept;
    SharedMaps& operator=(SharedMaps&& other) noexcept;
    SharedMaps(const SharedMaps&) = delete;
    SharedMaps& operator=(const SharedMaps&) = delete;
    ~SharedMaps();

    // The descriptor of the map that bpf/ calls `name`, -1 if it is none of the shared ones.
    [[nodiscard]] int find(std::string_view name) const;
    [[nodiscard]] int events() const { return events_.get(); }

    // As they are now, without a system call. From any thread.
    // Of the network namespace with that inode number, with what could be any namespace's.
    [[nodiscard]] hptrace_changes changes(std::uint32_t netns) const;
    [[nodiscard]] __u64 count(hptrace_counter counter) const;
    // Counts a change, in any namespace, that the programs could not count: they were not attached.
    void count_change(hptrace_source source);

private:
    SharedMaps() = default;

    Fd events_;
    Fd counters_;
    hptrace_counters* mapped_ = nullptr;
};

}  // namespace hptrace
