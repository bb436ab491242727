// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "capture/bpf_object.hpp"
#include "capture/capture.hpp"

namespace hptrace {

// What got attached; detached when it goes.
struct Attached {
    std::vector<BpfObject> objects;
    std::vector<ProbeStatus> probes;
    std::uint32_t tracked_sources = 0;  // bit per enum hptrace_source
    std::optional<Error> refusal;       // the first decision probe of a subsystem that is there, refused in every mode

    [[nodiscard]] ProbeMode decision_mode(std::string_view subsystem) const;
    [[nodiscard]] bool sees_commits() const;
};

// Tries, per probe, the modes from best to worst that `choice` allows: by name in /proc/kallsyms, then by loading, then
// by attaching. Fails only if /proc/kallsyms cannot be read; what is refused is in the result.
Result<Attached> attach_probes(const SharedMaps& maps, const hptrace_filter& filter, ProbeChoice choice);

// What there would be to attach to, none of it tried because of `why`.
std::vector<ProbeStatus> untried_probes(const std::string& why);

}  // namespace hptrace
