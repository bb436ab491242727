// SPDX-License-Identifier: GPL-2.0-or-later
// hptrace doctor: what this kernel offers, the probe mode of each function, what is missing, what to do.
#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/clock.hpp"
#include "base/grace_period.hpp"
#include "capture/capture.hpp"
#include "capture/obstacles.hpp"
#include "cli/abilities.hpp"
#include "cli/run.hpp"
#include "output/time.hpp"

namespace hptrace {

namespace {

struct Fact {
    std::string name;
    std::string value;
    std::string problem;  // empty: fine
};

std::string read_file(const char* path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    auto result = text.str();
    while (result.ends_with('\n')) {
        result.pop_back();
    }
    return result;
}

Fact kernel_fact() {
    utsname name{};
    static_cast<void>(::uname(&name));
    return {"kernel", fmt::format("{} {}", name.release, name.machine), {}};
}

Fact btf_fact() {
    if (::access("/sys/kernel/btf/vmlinux", R_OK) == 0) {
        return {"BTF", "/sys/kernel/btf/vmlinux", {}};
    }
    return {"BTF", "none", "hptrace needs a kernel with CONFIG_DEBUG_INFO_BTF, and /sys mounted"};
}

// "[none] integrity confidentiality": the one in brackets.
Fact lockdown_fact() {
    const auto text = read_file("/sys/kernel/security/lockdown");
    const auto first = text.find('[');
    const auto last = text.find(']');
    if (first == std::string::npos || last == std::string::npos) {
        return {"lockdown", "unknown (no /sys/kernel/security/lockdown)", {}};
    }
    const auto mode = text.substr(first + 1, last - first - 1);
    return {"lockdown", mode,
            mode == "confidentiality" ? "lockdown=confidentiality forbids kprobes and reading kernel memory" : ""};
}

Fact capability_fact() {
    constexpr std::array<std::pair<unsigned, const char*>, 4> wanted{{{CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
                                                                      {CAP_BPF, "CAP_BPF"},
                                                                      {CAP_PERFMON, "CAP_PERFMON"},
                                                                      {CAP_NET_ADMIN, "CAP_NET_ADMIN"}}};
    std::string have;
    std::string missing;
    for (const auto& [number, name] : wanted) {
        if (!has_capability(number) && number != CAP_NET_ADMIN && has_capability(CAP_SYS_ADMIN)) {
            continue;  // included (bpf_capable, perfmon_capable)
        }
        auto& list = has_capability(number) ? have : missing;
        list += list.empty() ? "" : " ";
        list += name;
    }
    return {"capabilities", have.empty() ? "none" : have,
            missing.empty() ? "" : fmt::format("missing: {} (run as root)", missing)};
}

Fact paranoid_fact() {
    const auto value = read_file("/proc/sys/kernel/perf_event_paranoid");
    return {"perf_event_paranoid", value.empty() ? "unknown" : value, {}};
}

Fact skipped_fact() {
    return {
        "skipped kprobes", counts_skipped_kprobes() ? "counted" : "not counted by this kernel (Linux 6.7 does)", {}};
}

Fact grace_fact() {
    const auto waited = wait_for_grace_period();
    if (waited) {
        return {"grace periods", "waited for", {}};
    }
    return {"grace periods", describe(waited.error()),
            fmt::format("a connection that is made within {} s of a change of rules is judged by the rules before as "
                        "well: more of them are unsettled",
                        assumed_grace_period.count())};
}

// A row each.
constexpr std::array<Fact (*)(), 7> fact_rows{kernel_fact,   btf_fact,     lockdown_fact, capability_fact,
                                              paranoid_fact, skipped_fact, grace_fact};

struct Diagnosis {
    std::vector<Fact> facts;
    std::vector<ProbeStatus> probes;
    std::optional<Error> obstacle;  // of tracing
    std::vector<Ability> abilities;
};

std::string words_for(const Ability& ability) {
    if (ability.why.empty()) {
        return "works";
    }
    return fmt::format("{}: {}", ability.works ? "works, but" : "does not work here", ability.why);
}

void print_text(Writer& writer, const Diagnosis& diagnosis) {
    for (const auto& fact : diagnosis.facts) {
        writer.line(
            fmt::format("{:<21}{}{}{}", fact.name, fact.value, fact.problem.empty() ? "" : "  ! ", fact.problem));
    }
    writer.line("");
    writer.line("SUBSYSTEM   FUNCTION                    PROBE");
    for (const auto& probe : diagnosis.probes) {
        const auto mode = !probe.present           ? std::string("not loaded")
                          : probe.misses_changes() ? fmt::format("{}: looked at every second", to_string(probe.mode))
                                                   : std::string(to_string(probe.mode));
        writer.line(fmt::format("{:<11} {:<27} {}", probe.subsystem, probe.function, mode));
        if (probe.present && !probe.why_not_better.empty()) {
            writer.line(fmt::format("            {}", probe.why_not_better));
        }
    }
    writer.line("");
    for (const auto& ability : diagnosis.abilities) {
        writer.line(fmt::format("{:<11} {}", ability.name, words_for(ability)));
    }
}

void print_json(Writer& writer, const Diagnosis& diagnosis) {
    using Json = nlohmann::ordered_json;
    Json json{
        {"type", "doctor"}, {"schema", 1}, {"time", utc_time(real_clock_ns())}, {"can_trace", !diagnosis.obstacle}};
    if (diagnosis.obstacle) {
        json["problem"] = describe(*diagnosis.obstacle);
    }
    json["abilities"] = Json::array();
    for (const auto& ability : diagnosis.abilities) {
        Json item{{"name", ability.name}, {"works", ability.works}};
        if (!ability.why.empty()) {
            item["problem"] = ability.why;
        }
        json["abilities"].push_back(std::move(item));
    }
    json["facts"] = Json::array();
    for (const auto& fact : diagnosis.facts) {
        Json item{{"name", fact.name}, {"value", fact.value}};
        if (!fact.problem.empty()) {
            item["problem"] = fact.problem;
        }
        json["facts"].push_back(std::move(item));
    }
    json["probes"] = Json::array();
    for (const auto& probe : diagnosis.probes) {
        Json item{{"subsystem", probe.subsystem},
                  {"function", probe.function},
                  {"present", probe.present},
                  {"mode", to_string(probe.mode)}};
        if (probe.misses_changes()) {
            item["polled"] = true;
        }
        if (!probe.why_not_better.empty()) {
            item["why_not_better"] = probe.why_not_better;
        }
        json["probes"].push_back(std::move(item));
    }
    writer.line(json.dump(-1, ' ', true, Json::error_handler_t::replace));
}

}  // namespace

int run_doctor(const DoctorOptions& options) {
    Diagnosis diagnosis;
    for (const auto& row : fact_rows) {
        diagnosis.facts.push_back(row());
    }
    auto trial = Capture::probe(ProbeChoice::automatic);
    diagnosis.probes = std::move(trial.probes);
    diagnosis.obstacle = std::move(trial.obstacle);
    diagnosis.abilities = find_abilities(diagnosis.obstacle);
    Writer writer(STDOUT_FILENO);
    (options.json ? print_json : print_text)(writer, diagnosis);
    return finish(writer, diagnosis.obstacle ? exit_failure : exit_clean);
}

}  // namespace hptrace
