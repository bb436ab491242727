// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "capture/shared_maps.hpp"
#include "hptrace/record.h"

struct bpf_object;
struct bpf_link;

namespace hptrace {

// Some programs of one object of bpf/, loaded and attached while it lives. Attached only through descriptors (BPF links
// and perf events), nothing is pinned and no tracefs event is made: the kernel removes all of it with the process.
class BpfObject {
public:
    // image: the object file. programs: names of those to load; they are attached in this order.
    // Errors: the errno with what was refused, and libbpf's or the verifier's words as the hint.
    static Result<BpfObject> attach(std::span<const std::byte> image, const std::vector<std::string>& programs,
                                    const SharedMaps& maps, const hptrace_filter& filter);

    // Detaches one of them; false: it has no such program, or not any more.
    bool detach(std::string_view program);
    // Is none of them attached any more?
    [[nodiscard]] bool empty() const { return links_.empty(); }

    // How often the kernel skipped these programs, as far as it counts that; see counts_skipped_kprobes(). System
    // calls.
    [[nodiscard]] std::uint64_t missed() const;

private:
    struct CloseObject {
        void operator()(bpf_object* object) const;
    };
    struct DestroyLink {
        void operator()(bpf_link* link) const;
    };

    BpfObject() = default;

    std::unique_ptr<bpf_object, CloseObject> object_;
    // By program. Destroyed before the object.
    std::vector<std::pair<std::string, std::unique_ptr<bpf_link, DestroyLink>>> links_;
};

}  // namespace hptrace
