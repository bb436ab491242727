// SPDX-License-Identifier: GPL-2.0-or-later
// Loads every program of bpf/ alone and prints what the kernel's verifier says of it, one line each:
// OBJECT PROGRAM "accepted" INSTRUCTIONS STATES, or OBJECT PROGRAM "refused" REASON. Needs the modules to be loaded.
#include <bpf/libbpf.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "hptrace/record.h"
// The skeletons use it.
#include "change.skel.h"
#include "ipvs.skel.h"
#include "nat.skel.h"

namespace {

struct Close {
    void operator()(bpf_object* object) const { bpf_object__close(object); }
};
using Object = std::unique_ptr<bpf_object, Close>;

// "processed 131 insns (limit 1000000) max_states_per_insn 0 total_states 9 peak_states 9 mark_read 3"
// (kernel/bpf/verifier.c, print_verification_stats)
unsigned long number_after(const std::string& log, const std::string& word) {
    const auto at = log.rfind(word);
    return at == std::string::npos ? 0 : std::strtoul(log.c_str() + at + word.size(), nullptr, 10);
}

void verify(const char* object_name, const std::vector<char>& image, const std::string& name) {
    constexpr int stats_only = 4;  // BPF_LOG_STATS, include/linux/bpf_verifier.h
    const Object object(bpf_object__open_mem(image.data(), image.size(), nullptr));
    std::vector<char> log(1 << 16);
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, object.get()) {
        const bool wanted = name == bpf_program__name(program);
        bpf_program__set_autoload(program, wanted);
        if (wanted) {
            bpf_program__set_log_level(program, stats_only);
            bpf_program__set_log_buf(program, log.data(), log.size());
        }
    }
    const int error = bpf_object__load(object.get());
    const std::string said(log.data());
    if (error != 0) {
        std::printf("%s %s refused %s\n", object_name, name.c_str(), std::strerror(-error));
    } else {
        std::printf("%s %s accepted %lu %lu\n", object_name, name.c_str(), number_after(said, "processed "),
                    number_after(said, "total_states "));
    }
}

template <class Bytes>
void verify_all(const char* object_name, Bytes elf_bytes) {
    std::size_t size = 0;
    const auto* data = static_cast<const char*>(elf_bytes(&size));
    const std::vector<char> image(data, data + size);
    const Object object(bpf_object__open_mem(image.data(), image.size(), nullptr));
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, object.get()) {
        verify(object_name, image, bpf_program__name(program));
    }
}

}  // namespace

int main() {
    libbpf_set_print([](libbpf_print_level, const char*, va_list) { return 0; });
    verify_all("nat", nat_bpf__elf_bytes);
    verify_all("ipvs", ipvs_bpf__elf_bytes);
    verify_all("change", change_bpf__elf_bytes);
}
