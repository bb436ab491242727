// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/bpf_object.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "capture/libbpf_log.hpp"
#include "capture/obstacles.hpp"

namespace hptrace {

namespace {

// Kernel-internal (include/linux/errno.h), but bpf() lets it out: no trampoline for this function.
constexpr int enotsupp = 524;

// What only kprobes remember: decisions on their way (bpf/nat.bpf.c), whose netns_ipvs is whose (bpf/ipvs.bpf.c).
constexpr std::array<std::string_view, 2> maps_of_kprobes{"pending", "ipvs_netns"};

std::unexpected<Error> refused(std::string what, int code, const LibbpfLog& log) {
    if (code == enotsupp) {
        return system_error(std::move(what), EOPNOTSUPP, "this kernel has no BPF trampoline for it");
    }
    if (code == ESRCH) {
        return failure(std::move(what), "the kernel has no BTF of this function");
    }
    return system_error(std::move(what), code, log.reason());
}

// Through a BPF link, which counts its misses, or where the kernel is too old for that (before 5.15) through the perf
// event alone. Never libbpf's third way, a tracefs event: that would outlive the process.
bpf_link* attach_kprobe(const bpf_program* program) {
    const std::string_view section = bpf_program__section_name(program);
    const auto slash = section.find('/');
    const std::string function(section.substr(slash + 1));
    bpf_kprobe_opts options{};
    options.sz = sizeof(options);
    options.retprobe = section.starts_with("kretprobe");
    options.attach_mode = PROBE_ATTACH_MODE_LINK;
    auto* link = bpf_program__attach_kprobe_opts(program, function.c_str(), &options);
    if (link == nullptr && errno == ENOTSUP) {
        options.attach_mode = PROBE_ATTACH_MODE_PERF;
        link = bpf_program__attach_kprobe_opts(program, function.c_str(), &options);
    }
    return link;
}

}  // namespace

void BpfObject::CloseObject::operator()(bpf_object* object) const {
    bpf_object__close(object);
}
void BpfObject::DestroyLink::operator()(bpf_link* link) const {
    bpf_link__destroy(link);
}

Result<BpfObject> BpfObject::attach(std::span<const std::byte> image, const std::vector<std::string>& programs,
                                    const SharedMaps& maps, const hptrace_filter& filter) {
    const LibbpfLog log;
    BpfObject out;
    out.object_.reset(bpf_object__open_mem(image.data(), image.size(), nullptr));
    if (!out.object_) {
        return refused("cannot open the BPF object", errno, log);
    }
    auto* object = out.object_.get();

    bool kprobes = false;
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, object) {
        const bool wanted = std::ranges::find(programs, bpf_program__name(program)) != programs.end();
        bpf_program__set_autoload(program, wanted);
        kprobes = kprobes || (wanted && bpf_program__type(program) == BPF_PROG_TYPE_KPROBE);
    }
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, object) {
        const std::string_view name = bpf_map__name(map);
        if (const int fd = maps.find(name); fd >= 0) {
            if (const int error = bpf_map__reuse_fd(map, fd); error != 0) {
                return refused(fmt::format("cannot share the BPF map {}", name), -error, log);
            }
        } else if (name == ".rodata.filter") {
            if (const int error = bpf_map__set_initial_value(map, &filter, sizeof(filter)); error != 0) {
                return refused("cannot hand the filter to the BPF programs", -error, log);
            }
        } else if (!kprobes && std::ranges::find(maps_of_kprobes, name) != maps_of_kprobes.end()) {
            bpf_map__set_autocreate(map, false);
        }
    }
    if (const int error = bpf_object__load(object); error != 0) {
        return refused("not loaded", -error, log);
    }
    for (const auto& name : programs) {
        program = bpf_object__find_program_by_name(object, name.c_str());
        if (program == nullptr) {
            return failure(fmt::format("the BPF object has no program {}", name));
        }
        auto* link =
            bpf_program__type(program) == BPF_PROG_TYPE_KPROBE ? attach_kprobe(program) : bpf_program__attach(program);
        if (link == nullptr) {
            const int code = errno;
            if (bpf_program__type(program) == BPF_PROG_TYPE_KPROBE && !has_kprobes()) {
                return failure("kprobes are not built into this kernel", "CONFIG_KPROBES, CONFIG_KPROBE_EVENTS");
            }
            return refused("not attached", code, log);
        }
        out.links_.emplace_back(name, link);
    }
    return out;
}

bool BpfObject::detach(std::string_view program) {
    return std::erase_if(links_, [program](const auto& link) { return link.first == program; }) > 0;
}

std::uint64_t BpfObject::missed() const {
    std::uint64_t total = 0;
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, object_.get()) {
        bpf_prog_info info{};
        __u32 size = sizeof(info);
        if (const int fd = bpf_program__fd(program); fd >= 0 && bpf_prog_get_info_by_fd(fd, &info, &size) == 0) {
            total += info.recursion_misses;
        }
    }
    for (const auto& [name, link] : links_) {
        bpf_link_info info{};
        __u32 size = sizeof(info);
        if (bpf_link_get_info_by_fd(bpf_link__fd(link.get()), &info, &size) == 0 &&
            info.type == BPF_LINK_TYPE_PERF_EVENT &&
            (info.perf_event.type == BPF_PERF_EVENT_KPROBE || info.perf_event.type == BPF_PERF_EVENT_KRETPROBE)) {
            total += info.perf_event.kprobe.missed;
        }
    }
    return total;
}

}  // namespace hptrace
