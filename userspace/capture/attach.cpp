// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/attach.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <span>
#include <utility>

#include "capture/symbols.hpp"
#include "change.skel.h"
#include "ipvs.skel.h"
#include "nat.skel.h"

namespace hptrace {

namespace {

using Functions = std::map<std::string, std::string, std::less<>>;  // name -> module

// A program of an object and the kernel function it is attached to.
struct Program {
    std::string name;
    std::string function;
};

// One way to observe something, all of its programs or none.
struct Variant {
    ProbeMode mode;
    std::vector<Program> programs;  // in the order of attaching
};

// Something to observe.
struct Probe {
    ProbePurpose purpose;
    std::string subsystem;             // module
    std::string function;              // what it is called in a ProbeStatus
    std::span<const std::byte> image;  // object of bpf/
    std::vector<Variant> variants;     // best first
};

template <class Bytes>
std::span<const std::byte> image_of(Bytes elf_bytes) {
    std::size_t size = 0;
    const auto* data = static_cast<const std::byte*>(elf_bytes(&size));
    return {data, size};
}

// Ends are attached before beginnings: an end too many is recognised at once (see ChangeBalance).
Probe change_probe(std::string subsystem, const std::string& function) {
    return {.purpose = ProbePurpose::change,
            .subsystem = std::move(subsystem),
            .function = function,
            .image = image_of(change_bpf__elf_bytes),
            .variants = {
                {ProbeMode::fexit, {{function + "_fexit", function}, {function + "_fentry", function}}},
                {ProbeMode::kprobe, {{function + "_kretprobe", function}, {function + "_kprobe", function}}},
            }};
}

std::vector<Probe> all_probes() {
    const auto nat = image_of(nat_bpf__elf_bytes);
    const std::string setup_info = "nf_nat_setup_info";
    const std::string confirm = "__nf_conntrack_confirm";
    return {
        {.purpose = ProbePurpose::decision,
         .subsystem = "nf_nat",
         .function = setup_info,
         .image = nat,
         .variants = {{ProbeMode::fexit, {{"decide_fexit", setup_info}}},
                      {ProbeMode::kprobe,
                       {{"decide_kprobe", "nf_conntrack_alter_reply"}, {"stash_kprobe", setup_info}}},
                      {ProbeMode::confirm, {{"decide_at_confirm", confirm}, {"stash_kprobe", setup_info}}}}},
        {.purpose = ProbePurpose::decision,
         .subsystem = "ip_vs",
         .function = "ip_vs_schedule",
         .image = image_of(ipvs_bpf__elf_bytes),
         .variants = {{ProbeMode::fexit, {{"schedule_fexit", "ip_vs_schedule"}}},
                      {ProbeMode::kprobe, {{"conn_new_kprobe", "ip_vs_conn_new"}}}}},
        {.purpose = ProbePurpose::commit,
         .subsystem = "nf_nat",
         .function = confirm,
         .image = nat,
         .variants = {{ProbeMode::fexit, {{"commit_fexit", confirm}}},
                      {ProbeMode::kprobe, {{"commit_kprobe", confirm}}}}},
        change_probe("x_tables", "xt_replace_table"),
        change_probe("nf_tables", "nf_tables_commit"),
        change_probe("ip_vs", "ip_vs_genl_set_cmd"),
        change_probe("ip_vs", "do_ip_vs_set_ctl"),
    };
}

std::vector<std::string_view> functions_of(const std::vector<Probe>& probes) {
    std::vector<std::string_view> names;
    for (const auto& probe : probes) {
        for (const auto& variant : probe.variants) {
            for (const auto& program : variant.programs) {
                names.emplace_back(program.function);
            }
        }
    }
    return names;
}

Result<Functions> read_functions(const std::vector<Probe>& probes) {
    std::ifstream kallsyms("/proc/kallsyms");
    if (!kallsyms) {
        return system_error("cannot read /proc/kallsyms", errno, "it tells which functions the kernel has");
    }
    return find_functions(kallsyms, functions_of(probes));
}

bool allowed(ProbeMode mode, ProbeChoice choice) {
    return choice == ProbeChoice::automatic || (mode == ProbeMode::fexit) == (choice == ProbeChoice::fexit);
}

// The subsystem's module is loaded, or it is built in.
bool is_present(const Probe& probe, const Functions& functions) {
    const auto in_subsystem = [&](const auto& function) { return function.second == probe.subsystem; };
    return std::ranges::any_of(functions, in_subsystem) || functions.contains(probe.function) ||
           ::access(("/sys/module/" + probe.subsystem).c_str(), F_OK) == 0;
}

Result<BpfObject> try_variant(const Probe& probe, const Variant& variant, const Functions& functions,
                              const SharedMaps& maps, const hptrace_filter& filter) {
    std::vector<std::string> programs;
    for (const auto& program : variant.programs) {
        if (!functions.contains(program.function)) {
            return failure(fmt::format("the kernel has no function {}", program.function));
        }
        programs.push_back(program.name);
    }
    return BpfObject::attach(probe.image, programs, maps, filter);
}

// Attaches the best variant possible; adds to `attached`.
void attach_best(const Probe& probe, const Functions& functions, const SharedMaps& maps, const hptrace_filter& filter,
                 ProbeChoice choice, Attached& attached) {
    ProbeStatus status{.purpose = probe.purpose,
                       .subsystem = probe.subsystem,
                       .function = probe.function,
                       .present = is_present(probe, functions),
                       .why_not_better = {}};
    std::optional<Error> first;
    if (status.present) {
        for (const auto& variant : probe.variants) {
            if (!allowed(variant.mode, choice)) {
                continue;
            }
            auto object = try_variant(probe, variant, functions, maps, filter);
            if (object) {
                status.mode = variant.mode;
                attached.objects.push_back(*std::move(object));
                break;
            }
            if (!status.why_not_better.empty()) {
                status.why_not_better += "; ";
            }
            status.why_not_better += fmt::format("{}: {}", to_string(variant.mode), describe(object.error()));
            if (!first) {
                first = object.error();
            }
        }
    }
    if (status.mode == ProbeMode::none && probe.purpose == ProbePurpose::decision && first && !attached.refusal) {
        attached.refusal =
            Error{fmt::format("cannot trace {}: {}", probe.function, first->what), first->code, first->hint};
    }
    attached.probes.push_back(std::move(status));
}

std::uint32_t tracked(const std::vector<ProbeStatus>& probes) {
    static constexpr std::array<std::pair<std::string_view, hptrace_source>, 3> sources{{
        {"x_tables", HPTRACE_SOURCE_XTABLES},
        {"nf_tables", HPTRACE_SOURCE_NFTABLES},
        {"ip_vs", HPTRACE_SOURCE_IPVS},
    }};
    std::uint32_t bits = 0;
    for (const auto& [subsystem, source] : sources) {
        const auto counts = [&](const ProbeStatus& probe) {
            return probe.purpose != ProbePurpose::change || probe.subsystem != subsystem ||
                   probe.mode != ProbeMode::none;
        };
        if (std::ranges::all_of(probes, counts)) {
            bits |= 1U << static_cast<unsigned>(source);
        }
    }
    return bits;
}

}  // namespace

ProbeMode Attached::decision_mode(std::string_view subsystem) const {
    const auto found = std::ranges::find_if(probes, [&](const ProbeStatus& probe) {
        return probe.purpose == ProbePurpose::decision && probe.subsystem == subsystem;
    });
    return found == probes.end() ? ProbeMode::none : found->mode;
}

bool Attached::sees_commits() const {
    return std::ranges::any_of(probes, [](const ProbeStatus& probe) {
        return probe.purpose == ProbePurpose::commit && probe.mode != ProbeMode::none;
    });
}

Result<Attached> attach_probes(const SharedMaps& maps, const hptrace_filter& filter, ProbeChoice choice) {
    const auto probes = all_probes();
    const auto functions = read_functions(probes);
    if (!functions) {
        return std::unexpected(functions.error());
    }
    Attached attached;
    for (const auto& probe : probes) {
        // Decisions seen at confirm are their own commits; without decisions there is nothing to commit.
        const auto nat = attached.decision_mode("nf_nat");
        if (probe.purpose != ProbePurpose::commit || nat == ProbeMode::fexit || nat == ProbeMode::kprobe) {
            attach_best(probe, *functions, maps, filter, choice, attached);
        }
    }
    attached.tracked_sources = tracked(attached.probes);
    return attached;
}

std::vector<ProbeStatus> untried_probes(const std::string& why) {
    const auto probes = all_probes();
    const auto functions = read_functions(probes).value_or(Functions{});
    std::vector<ProbeStatus> out;
    for (const auto& probe : probes) {
        const bool present = is_present(probe, functions);
        out.push_back({.purpose = probe.purpose,
                       .subsystem = probe.subsystem,
                       .function = probe.function,
                       .mode = ProbeMode::none,
                       .present = present,
                       .why_not_better = present ? why : std::string{}});
    }
    return out;
}

}  // namespace hptrace
