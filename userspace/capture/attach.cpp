// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/attach.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <span>
#include <utility>

#include "base/presence.hpp"
#include "capture/obstacles.hpp"
#include "capture/symbols.hpp"
#include "change.skel.h"
#include "ipvs.skel.h"
#include "nat.skel.h"

namespace hptrace {

namespace {

// A program of an object and the kernel function it is attached to.
struct Program {
    std::string name;
    std::string function;
    bool optional = false;  // left out where the kernel has no such function
};

// One way to observe something, all of its programs that are not optional or none.
struct Variant {
    ProbeMode mode;
    std::vector<Program> programs;  // in the order of attaching
};

// Something to observe.
struct Probe {
    ProbePurpose purpose;
    std::string subsystem;          // module
    std::string function;           // what it is called in a ProbeStatus
    std::vector<Variant> variants;  // best first

    [[nodiscard]] const Variant* variant(ProbeMode mode) const {
        const auto found = std::ranges::find(variants, mode, &Variant::mode);
        return found == variants.end() ? nullptr : &*found;
    }
};

// Commits and clashes are of use with the decisions they belong to, and follow them in their object.
bool follows_decision(const Probe& probe) {
    return probe.purpose == ProbePurpose::commit || probe.purpose == ProbePurpose::clash;
}

// An object of bpf/ with all that it can observe.
struct Object {
    std::span<const std::byte> image;
    std::vector<Probe> probes;
};

template <class Bytes>
std::span<const std::byte> image_of(Bytes elf_bytes) {
    std::size_t size = 0;
    const auto* data = static_cast<const std::byte*>(elf_bytes(&size));
    return {data, size};
}

Object nat_object() {
    const std::string setup_info = "nf_nat_setup_info";
    const std::string confirm = "__nf_conntrack_confirm";
    const std::string insert = "nf_conntrack_hash_check_insert";
    const std::string clash = "nf_ct_resolve_clash";
    return {
        .image = image_of(nat_bpf__elf_bytes),
        .probes = {
            {.purpose = ProbePurpose::decision,
             .subsystem = "nf_nat",
             .function = setup_info,
             .variants =
                 {{ProbeMode::fexit, {{"decide_fexit", setup_info}}},
                  {ProbeMode::kprobe, {{"decide_kprobe", "nf_conntrack_alter_reply"}, {"stash_kprobe", setup_info}}},
                  {ProbeMode::confirm,
                   {{"decide_at_confirm", confirm}, {"decide_at_insert", insert}, {"stash_kprobe", setup_info}}}}},
            {.purpose = ProbePurpose::commit,
             .subsystem = "nf_nat",
             .function = confirm,
             .variants = {{ProbeMode::fexit, {{"commit_fexit", confirm}, {"commit_insert_fexit", insert}}},
                          {ProbeMode::kprobe, {{"commit_kprobe", confirm}, {"commit_insert_kprobe", insert}}}}},
            {.purpose = ProbePurpose::clash,
             .subsystem = "nf_nat",
             .function = clash,
             .variants = {{ProbeMode::fexit, {{"clash_fentry", clash}}},
                          {ProbeMode::kprobe, {{"clash_kprobe", clash}}},
                          {ProbeMode::confirm, {{"clash_kprobe", clash}}}}}}};
}

Object ipvs_object() {
    return {.image = image_of(ipvs_bpf__elf_bytes),
            .probes = {{.purpose = ProbePurpose::decision,
                        .subsystem = "ip_vs",
                        .function = "ip_vs_schedule",
                        .variants = {{ProbeMode::fexit, {{"schedule_fexit", "ip_vs_schedule"}}},
                                     {ProbeMode::kprobe, {{"conn_new_kprobe", "ip_vs_conn_new"}}},
                                     {ProbeMode::fixed,
                                      {{"conn_new_fixed", "ip_vs_conn_new"}, {"schedule_fixed", "ip_vs_schedule"}}}}}}};
}

// Ends are attached before beginnings: an end too many is recognised at once (see ChangeBalance). told_netns: functions
// that tell in which namespace the change is; without them it counts for all.
Probe change_probe(std::string subsystem, const std::string& function,
                   const std::vector<std::string>& told_netns = {}) {
    const auto variant = [&](ProbeMode mode, const std::string& end, const std::string& begin) {
        Variant out{mode, {}};
        for (const auto& teller : told_netns) {
            out.programs.push_back({teller + begin, teller, true});
        }
        out.programs.push_back({function + end, function});
        out.programs.push_back({function + begin, function});
        return out;
    };
    return {.purpose = ProbePurpose::change,
            .subsystem = std::move(subsystem),
            .function = function,
            .variants = {variant(ProbeMode::fexit, "_fexit", "_fentry"),
                         variant(ProbeMode::kprobe, "_kretprobe", "_kprobe")}};
}

std::vector<Object> all_objects() {
    return {nat_object(), ipvs_object(),
            Object{.image = image_of(change_bpf__elf_bytes),
                   .probes = {
                       change_probe("x_tables", "xt_replace_table", {"xt_table_unlock", "xt_request_find_table_lock"}),
                       change_probe("nf_tables", "nf_tables_commit"), change_probe("ip_vs", "ip_vs_genl_set_cmd"),
                       change_probe("ip_vs", "do_ip_vs_set_ctl")}}};
}

Result<Functions> functions_of(const std::vector<Object>& objects) {
    std::vector<std::string_view> names;
    for (const auto& object : objects) {
        for (const auto& probe : object.probes) {
            for (const auto& variant : probe.variants) {
                for (const auto& program : variant.programs) {
                    names.emplace_back(program.function);
                }
            }
        }
    }
    return read_functions(names);
}

bool allowed(ProbeMode mode, ProbeChoice choice) {
    return choice == ProbeChoice::automatic || (mode == ProbeMode::fexit) == (choice == ProbeChoice::fexit);
}

// The subsystem's module is loaded, or it is built in.
bool is_present(const Probe& probe, const Functions& functions) {
    const auto in_subsystem = [&](const auto& function) { return function.second == probe.subsystem; };
    return std::ranges::any_of(functions, in_subsystem) || subsystem_present(probe.subsystem);
}

// Of what is built in the kernel's own BTF tells, which is there (find_obstacle()).
bool has_btf(const Probe& probe, const Functions& functions) {
    return is_built_in(probe.function, functions) ||
           ::access(("/sys/kernel/btf/" + probe.subsystem).c_str(), F_OK) == 0;
}

}  // namespace

// Attaches one object of bpf/, all of it or what observes one subsystem. What goes together is loaded together, since
// every load reads the kernel's whole BTF; when that fails each probe is tried alone, so that none is lost for the sake
// of another.
class Attacher {
public:
    // `subsystem`: empty for all.
    Attacher(const Object& object, std::string_view subsystem, const Functions& functions, const SharedMaps& maps,
             const hptrace_filter& filter)
        : object_(object), functions_(functions), maps_(maps), filter_(filter) {
        for (const auto& probe : object.probes) {
            if (!subsystem.empty() && probe.subsystem != subsystem) {
                continue;
            }
            probes_.push_back({.probe = &probe,
                               .status = {.purpose = probe.purpose,
                                          .subsystem = probe.subsystem,
                                          .function = probe.function,
                                          .mode = ProbeMode::none,
                                          .present = is_present(probe, functions),
                                          .why_not_better = {}},
                               .refusal = {}});
        }
    }

    // Adds to `attached`.
    void run(ProbeChoice choice, Probes& attached) {
        for (const auto mode : {ProbeMode::fexit, ProbeMode::kprobe, ProbeMode::confirm, ProbeMode::fixed}) {
            if (allowed(mode, choice)) {
                try_mode(mode, attached);
            }
        }
        for (auto& [probe, status, refusal] : probes_) {
            if (probe->purpose == ProbePurpose::decision && status.mode == ProbeMode::none && !attached.refusal_) {
                attached.refusal_ = std::move(refusal);
            }
            if (probe->purpose == ProbePurpose::commit &&
                attached.decision_mode(status.subsystem) == ProbeMode::confirm) {
                status.mode = ProbeMode::confirm;  // the decision is the commit
            }
            attached.statuses_.push_back(std::move(status));
        }
    }

private:
    struct Attempt {
        const Probe* probe;
        ProbeStatus status;
        std::optional<Error> refusal;  // of the best mode
    };

    void try_mode(ProbeMode mode, Probes& attached) {
        std::vector<Attempt*> wanted;
        for (auto& attempt : probes_) {
            const auto* variant = attempt.probe->variant(mode);
            if (attempt.status.mode != ProbeMode::none || !attempt.status.present || variant == nullptr) {
                continue;
            }
            if (const auto* missing = missing_function(*variant)) {
                refuse(attempt, mode, {fmt::format("the kernel has no function {}", *missing), 0, {}});
            } else if (mode == ProbeMode::fixed && has_btf(*attempt.probe, functions_)) {
                continue;  // what CO-RE finds in it, but cannot use, is not where it used to be
            } else if (!follows_decision(*attempt.probe) || decides(wanted)) {
                wanted.push_back(&attempt);
            }
        }
        if (wanted.empty() || attach(wanted, mode, attached)) {
            return;
        }
        for (auto* attempt : wanted) {
            if (wanted.size() > 1 && (!follows_decision(*attempt->probe) || decides({}))) {
                static_cast<void>(attach({attempt}, mode, attached));
            }
        }
    }

    // There is a decision to follow: attached already, or about to be.
    [[nodiscard]] bool decides(const std::vector<Attempt*>& wanted) const {
        const auto is_decision = [](const Attempt& attempt) {
            return attempt.probe->purpose == ProbePurpose::decision;
        };
        return std::ranges::any_of(wanted, [&](const Attempt* attempt) { return is_decision(*attempt); }) ||
               std::ranges::any_of(probes_, [&](const Attempt& attempt) {
                   return is_decision(attempt) && attempt.status.mode != ProbeMode::none;
               });
    }

    [[nodiscard]] const std::string* missing_function(const Variant& variant) const {
        const auto missing = [&](const Program& program) { return !program.optional && is_absent(program); };
        const auto found = std::ranges::find_if(variant.programs, missing);
        return found == variant.programs.end() ? nullptr : &found->function;
    }

    [[nodiscard]] bool is_absent(const Program& program) const { return !functions_.contains(program.function); }

    bool attach(const std::vector<Attempt*>& wanted, ProbeMode mode, Probes& attached) {
        std::vector<std::string> programs;
        for (const auto* attempt : wanted) {
            for (const auto& program : attempt->probe->variant(mode)->programs) {
                if (!is_absent(program)) {
                    programs.push_back(program.name);
                }
            }
        }
        auto object = BpfObject::attach(object_.image, programs, maps_, filter_);
        if (!object) {
            if (wanted.size() == 1) {
                refuse(*wanted.front(), mode, object.error());
            }
            return false;
        }
        for (auto* attempt : wanted) {
            attempt->status.mode = mode;
        }
        attached.objects_.push_back(*std::move(object));
        return true;
    }

    static void refuse(Attempt& attempt, ProbeMode mode, const Error& error) {
        auto& why = attempt.status.why_not_better;
        why += fmt::format("{}{}: {}", why.empty() ? "" : "; ", to_string(mode), describe(error));
        // What the kernel says to an attempt tells more than that a function is absent.
        if (!attempt.refusal || (attempt.refusal->code == 0 && error.code != 0)) {
            attempt.refusal =
                Error{fmt::format("cannot trace {}: {}", attempt.probe->function, error.what), error.code, error.hint};
        }
    }

    const Object& object_;
    const Functions& functions_;
    const SharedMaps& maps_;
    const hptrace_filter& filter_;
    std::vector<Attempt> probes_;
};

namespace {

// The subsystem's changes are counted: all of its functions are probed.
bool counts_changes(const std::vector<ProbeStatus>& probes, std::string_view subsystem) {
    return std::ranges::none_of(probes, [&](const ProbeStatus& probe) {
        return probe.purpose == ProbePurpose::change && probe.subsystem == subsystem && probe.mode == ProbeMode::none;
    });
}

constexpr std::array<std::pair<std::string_view, hptrace_source>, 3> counted_sources{
    {{"x_tables", HPTRACE_SOURCE_XTABLES}, {"nf_tables", HPTRACE_SOURCE_NFTABLES}, {"ip_vs", HPTRACE_SOURCE_IPVS}}};

// While its probes were not attached anything may have changed.
void count_change(std::string_view subsystem, SharedMaps& maps) {
    const auto found = std::ranges::find(counted_sources, subsystem, [](const auto& entry) { return entry.first; });
    if (found != counted_sources.end()) {
        maps.count_change(found->second);
    }
}

}  // namespace

Result<Probes> Probes::attach(const SharedMaps& maps, const hptrace_filter& filter, ProbeChoice choice) {
    const auto objects = all_objects();
    const auto functions = functions_of(objects);
    if (!functions) {
        return std::unexpected(functions.error());
    }
    Probes probes(filter, choice);
    for (const auto& object : objects) {
        Attacher(object, {}, *functions, maps, filter).run(choice, probes);
    }
    return probes;
}

bool Probes::concerns(std::string_view module) {
    const auto objects = all_objects();
    return std::ranges::any_of(objects, [module](const Object& object) {
        return std::ranges::find(object.probes, module, &Probe::subsystem) != object.probes.end();
    });
}

std::vector<ModuleChange> Probes::differences() const {
    std::vector<ModuleChange> changes;
    const auto objects = all_objects();
    const auto functions = functions_of(objects).value_or(Functions{});
    for (const auto& object : objects) {
        for (const auto& probe : object.probes) {
            const auto status = std::ranges::find(statuses_, probe.function, &ProbeStatus::function);
            const ModuleChange change{.module = probe.subsystem, .loaded = is_present(probe, functions)};
            if (status != statuses_.end() && status->present != change.loaded &&
                std::ranges::find(changes, change) == changes.end()) {
                changes.push_back(change);
            }
        }
    }
    return changes;
}

void Probes::unloaded(std::string_view module, SharedMaps& maps) {
    for (const auto& object : all_objects()) {
        for (const auto& probe : object.probes) {
            if (probe.subsystem != module) {
                continue;
            }
            for (const auto& variant : probe.variants) {
                for (const auto& program : variant.programs) {
                    std::ranges::for_each(objects_, [&](BpfObject& attached) { attached.detach(program.name); });
                }
            }
        }
    }
    std::erase_if(objects_, [this](const BpfObject& object) {
        missed_before_ += object.empty() ? object.missed() : 0;
        return object.empty();
    });
    for (auto& status : statuses_) {
        if (status.subsystem == module) {
            status.mode = ProbeMode::none;
            status.present = false;
            status.why_not_better.clear();
        }
    }
    count_change(module, maps);
}

Result<void> Probes::loaded(std::string_view module, SharedMaps& maps) {
    unloaded(module, maps);  // in case that was not announced
    const auto objects = all_objects();
    const auto functions = functions_of(objects);
    if (!functions) {
        return std::unexpected(functions.error());
    }
    std::erase_if(statuses_, [module](const ProbeStatus& status) { return status.subsystem == module; });
    for (const auto& object : objects) {
        Attacher(object, module, *functions, maps, filter_).run(choice_, *this);
    }
    count_change(module, maps);
    return {};
}

ProbeMode Probes::decision_mode(std::string_view subsystem) const {
    const auto found = std::ranges::find_if(statuses_, [&](const ProbeStatus& probe) {
        return probe.purpose == ProbePurpose::decision && probe.subsystem == subsystem;
    });
    return found == statuses_.end() ? ProbeMode::none : found->mode;
}

bool Probes::sees_commits() const {
    return std::ranges::any_of(statuses_, [](const ProbeStatus& probe) {
        return probe.purpose == ProbePurpose::commit &&
               (probe.mode == ProbeMode::fexit || probe.mode == ProbeMode::kprobe);
    });
}

bool Probes::sees_clashes() const {
    return std::ranges::any_of(statuses_, [](const ProbeStatus& probe) {
        return probe.purpose == ProbePurpose::clash && probe.mode != ProbeMode::none;
    });
}

std::uint32_t Probes::tracked_sources() const {
    std::uint32_t bits = 0;
    for (const auto& [subsystem, source] : counted_sources) {
        if (counts_changes(statuses_, subsystem)) {
            bits |= 1U << static_cast<unsigned>(source);
        }
    }
    return bits;
}

bool Probes::misses_changes() const {
    return std::ranges::any_of(statuses_, [](const ProbeStatus& probe) { return probe.misses_changes(); });
}

bool Probes::counts_missed() const {
    // What a change probe misses is repaired (ChangeBalance).
    return std::ranges::all_of(statuses_,
                               [](const ProbeStatus& probe) {
                                   return probe.purpose == ProbePurpose::change || probe.mode == ProbeMode::fexit ||
                                          probe.mode == ProbeMode::none;
                               }) ||
           counts_skipped_kprobes();
}

std::uint64_t Probes::missed() const {
    return std::accumulate(objects_.begin(), objects_.end(), missed_before_,
                           [](std::uint64_t sum, const BpfObject& object) { return sum + object.missed(); });
}

std::vector<ProbeStatus> untried_probes(const std::string& why) {
    const auto objects = all_objects();
    const auto functions = functions_of(objects).value_or(Functions{});
    std::vector<ProbeStatus> out;
    for (const auto& object : objects) {
        for (const auto& probe : object.probes) {
            const bool present = is_present(probe, functions);
            out.push_back({.purpose = probe.purpose,
                           .subsystem = probe.subsystem,
                           .function = probe.function,
                           .mode = ProbeMode::none,
                           .present = present,
                           .why_not_better = present ? why : std::string{}});
        }
    }
    return out;
}

}  // namespace hptrace
