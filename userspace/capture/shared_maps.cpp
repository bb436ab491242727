// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/shared_maps.hpp"

#include <bpf/bpf.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace hptrace {

namespace {

Result<Fd> create_map(bpf_map_type type, const char* name, std::uint32_t key, std::uint32_t value,
                      std::uint32_t entries, std::uint32_t flags = 0) {
    bpf_map_create_opts options{};
    options.sz = sizeof(options);
    options.map_flags = flags;
    const int fd = bpf_map_create(type, name, key, value, entries, &options);
    if (fd < 0) {
        return system_error(std::string("cannot create the BPF map ") + name, -fd);
    }
    return Fd(fd);
}

}  // namespace

Result<SharedMaps> SharedMaps::create() {
    SharedMaps maps;
    auto events = create_map(BPF_MAP_TYPE_RINGBUF, "events", 0, 0, HPTRACE_RING_BYTES);
    if (!events) {
        return std::unexpected(events.error());
    }
    auto counters =
        create_map(BPF_MAP_TYPE_ARRAY, "counters", sizeof(std::uint32_t), sizeof(hptrace_counters), 1, BPF_F_MMAPABLE);
    if (!counters) {
        return std::unexpected(counters.error());
    }
    void* mapped = ::mmap(nullptr, sizeof(hptrace_counters), PROT_READ | PROT_WRITE, MAP_SHARED, counters->get(), 0);
    if (mapped == MAP_FAILED) {
        return system_error("cannot map the BPF map counters");
    }
    maps.events_ = *std::move(events);
    maps.counters_ = *std::move(counters);
    maps.mapped_ = static_cast<hptrace_counters*>(mapped);
    return maps;
}

SharedMaps::SharedMaps(SharedMaps&& other) noexcept
    : events_(std::move(other.events_)),
      counters_(std::move(other.counters_)),
      mapped_(std::exchange(other.mapped_, nullptr)) {}

SharedMaps& SharedMaps::operator=(SharedMaps&& other) noexcept {
    std::swap(events_, other.events_);
    std::swap(counters_, other.counters_);
    std::swap(mapped_, other.mapped_);
    return *this;
}

SharedMaps::~SharedMaps() {
    if (mapped_ != nullptr) {
        ::munmap(mapped_, sizeof(hptrace_counters));
    }
}

int SharedMaps::find(std::string_view name) const {
    if (name == "events") {
        return events_.get();
    }
    return name == "counters" ? counters_.get() : -1;
}

// Ends before begins: a change between the two shows as under way.
hptrace_changes SharedMaps::changes(std::uint32_t netns) const {
    const auto& anywhere = mapped_->changes_anywhere;
    const auto& here = mapped_->changes[hptrace_change_slot(netns)];
    const auto sum = [](const __u32& a, const __u32& b) {
        return __atomic_load_n(&a, __ATOMIC_ACQUIRE) + __atomic_load_n(&b, __ATOMIC_ACQUIRE);
    };
    hptrace_changes out{};
    for (std::size_t i = 0; i < HPTRACE_SOURCES; ++i) {
        out.end[i] = sum(anywhere.end[i], here.end[i]);
    }
    for (std::size_t i = 0; i < HPTRACE_SOURCES; ++i) {
        out.begin[i] = sum(anywhere.begin[i], here.begin[i]);
    }
    return out;
}

__u64 SharedMaps::count(hptrace_counter counter) const {
    return __atomic_load_n(&mapped_->count[counter], __ATOMIC_RELAXED);
}

// Begins before ends, as the programs do.
void SharedMaps::count_change(hptrace_source source) {
    __atomic_fetch_add(&mapped_->changes_anywhere.begin[source], 1, __ATOMIC_ACQ_REL);
    __atomic_fetch_add(&mapped_->changes_anywhere.end[source], 1, __ATOMIC_ACQ_REL);
}

}  // namespace hptrace
