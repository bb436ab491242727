// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/obstacles.hpp"

#include <bpf/btf.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <memory>
#include <span>
#include <string_view>

#include "capture/libbpf_log.hpp"
#include "capture/symbols.hpp"

namespace hptrace {

namespace {

constexpr const char* btf_path = "/sys/kernel/btf/vmlinux";

std::uint64_t effective_capabilities() {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
    if (::syscall(SYS_capget, &header, data.data()) != 0) {
        return 0;
    }
    return data[0].effective | (std::uint64_t{data[1].effective} << 32U);
}

struct FreeBtf {
    void operator()(btf* types) const { btf__free(types); }
};

// The type of this member of a structure, or of one of the structures in it.
std::optional<__u32> find_member(const btf& types, __u32 structure, std::string_view name) {
    const auto* type = btf__type_by_id(&types, structure);
    if (type == nullptr || !btf_is_composite(type)) {
        return std::nullopt;
    }
    for (const auto& member : std::span(btf_members(type), btf_vlen(type))) {
        if (btf__name_by_offset(&types, member.name_off) == name) {
            return member.type;
        }
        if (const auto inner = find_member(types, member.type, name)) {
            return inner;
        }
    }
    return std::nullopt;
}

}  // namespace

bool has_capability(unsigned capability) {
    return ((effective_capabilities() >> capability) & 1U) != 0;
}

std::optional<Error> find_obstacle() {
    // Types of modules are read through BPF_BTF_GET_FD_BY_ID, which wants CAP_SYS_ADMIN.
    if (!has_capability(CAP_SYS_ADMIN) && !(has_capability(CAP_BPF) && has_capability(CAP_PERFMON))) {
        return Error{"tracing needs root", 0, "CAP_SYS_ADMIN, or at least CAP_BPF and CAP_PERFMON"};
    }
    if (::access(btf_path, R_OK) != 0) {
        return Error{std::string("this kernel has no BTF: ") + btf_path, errno,
                     "it must be built with CONFIG_DEBUG_INFO_BTF=y; in a container, mount /sys"};
    }
    return std::nullopt;
}

std::string lockdown_mode(const std::string& text) {
    const auto open = text.find('[');
    const auto close = text.find(']');
    return open == std::string::npos || close == std::string::npos || close < open
               ? std::string{}
               : text.substr(open + 1, close - open - 1);
}

bool forbids_reading_memory() {
    std::ifstream file("/sys/kernel/security/lockdown");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    return lockdown_mode(text) == "confidentiality";
}

std::string explain_refusal() {
    if (forbids_reading_memory()) {
        return "kernel lockdown (confidentiality) allows only fexit probes that read no kernel memory: leave out "
               "--probe kprobe";
    }
    return "the kernel refuses tracing programs: a container, a seccomp profile or a security module forbids them";
}

bool has_kprobes() {
    constexpr std::array<std::string_view, 2> needed{"register_kprobe", "perf_kprobe_init"};
    const auto found = read_functions({needed.begin(), needed.end()});
    return !found || found->size() == needed.size();
}

bool counts_skipped_kprobes() {
    const LibbpfLog silence;
    const std::unique_ptr<btf, FreeBtf> types(btf__load_vmlinux_btf());
    if (!types) {
        return false;
    }
    const auto info = btf__find_by_name_kind(types.get(), "bpf_link_info", BTF_KIND_STRUCT);
    const auto kprobe = info < 0 ? std::nullopt : find_member(*types, static_cast<__u32>(info), "kprobe");
    return kprobe && find_member(*types, *kprobe, "missed");
}

}  // namespace hptrace
