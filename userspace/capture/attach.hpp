// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "capture/bpf_object.hpp"
#include "capture/capture.hpp"
#include "capture/module_watch.hpp"

namespace hptrace {

// All probes, attached as far as the kernel lets them be; detached when it goes.
class Probes {
public:
    // Tries, per probe, the modes from best to worst that `choice` allows: by name in /proc/kallsyms, then by loading,
    // then by attaching. Fails only if /proc/kallsyms cannot be read; what is refused is in probes().
    static Result<Probes> attach(const SharedMaps& maps, const hptrace_filter& filter, ProbeChoice choice);

    // The module was unloaded: its probes are gone. (A module that a fexit probe is attached to stays.)
    void unloaded(std::string_view module, SharedMaps& maps);
    // The module was loaded: tries its probes, all in new objects: an object knows the types of the modules that were
    // there when it was loaded. Errors as attach().
    Result<void> loaded(std::string_view module, SharedMaps& maps);
    // Do probes depend on that module?
    [[nodiscard]] static bool concerns(std::string_view module);
    // Modules that are there now and were not when last tried, or the other way round.
    [[nodiscard]] std::vector<ModuleChange> differences() const;

    [[nodiscard]] const std::vector<ProbeStatus>& statuses() const { return statuses_; }
    [[nodiscard]] ProbeMode decision_mode(std::string_view subsystem) const;
    [[nodiscard]] bool sees_commits() const;
    [[nodiscard]] bool sees_clashes() const;
    // Bit per enum hptrace_source: all functions that change it are probed.
    [[nodiscard]] std::uint32_t tracked_sources() const;
    // A subsystem that is there can be changed by a function that is not probed.
    [[nodiscard]] bool misses_changes() const;
    // Of a decision probe of a subsystem that is there: the first one refused in every mode.
    [[nodiscard]] const std::optional<Error>& refusal() const { return refusal_; }
    // Is every skipped probe counted?
    [[nodiscard]] bool counts_missed() const;
    // BpfObject::missed() of all there are and were.
    [[nodiscard]] std::uint64_t missed() const;

private:
    friend class Attacher;

    Probes(const hptrace_filter& filter, ProbeChoice choice) : filter_(filter), choice_(choice) {}

    hptrace_filter filter_;
    ProbeChoice choice_;
    std::vector<BpfObject> objects_;
    std::vector<ProbeStatus> statuses_;
    std::optional<Error> refusal_;
    std::uint64_t missed_before_ = 0;  // of objects that are gone
};

// What there would be to attach to, none of it tried because of `why`.
std::vector<ProbeStatus> untried_probes(const std::string& why);

}  // namespace hptrace
