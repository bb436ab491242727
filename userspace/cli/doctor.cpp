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

#include "capture/capture.hpp"
#include "cli/run.hpp"
#include "output/escape.hpp"

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
    std::ifstream status("/proc/self/status");
    std::string line;
    std::uint64_t effective = 0;
    while (std::getline(status, line)) {
        if (line.starts_with("CapEff:")) {
            std::stringstream(line.substr(7)) >> std::hex >> effective;
        }
    }
    std::string have;
    std::string missing;
    for (const auto& [number, name] : wanted) {
        auto& list = (effective >> number & 1U) != 0 ? have : missing;
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

bool is_decision(const ProbeStatus& probe) {
    return probe.subsystem == "nf_nat" || probe.subsystem == "ip_vs";
}

// The one thing that stands in the way, empty if tracing works.
std::string obstacle(const std::vector<Fact>& facts, const std::vector<ProbeStatus>& probes) {
    const auto works = [](const ProbeStatus& probe) { return is_decision(probe) && probe.mode != ProbeMode::none; };
    if (std::ranges::any_of(probes, works)) {
        return {};
    }
    const auto there = [](const ProbeStatus& probe) { return is_decision(probe) && probe.present; };
    for (const char* name : {"capabilities", "BTF", "lockdown"}) {
        const auto fact = std::ranges::find(facts, name, &Fact::name);
        if (fact != facts.end() && !fact->problem.empty()) {
            return fact->problem;
        }
    }
    if (std::ranges::none_of(probes, there)) {
        return "neither nf_nat nor ip_vs is loaded: nothing rewrites connections here. Run it on a Kubernetes node";
    }
    const auto reason = std::ranges::find_if(probes, there);
    return fmt::format("the kernel refuses to probe {}: {}", reason->function, reason->why_not_better);
}

void print_text(Writer& writer, const std::vector<Fact>& facts, const std::vector<ProbeStatus>& probes,
                const std::string& problem) {
    for (const auto& fact : facts) {
        writer.line(escape(
            fmt::format("{:<21}{}{}{}", fact.name, fact.value, fact.problem.empty() ? "" : "  ! ", fact.problem)));
    }
    writer.line("");
    writer.line("SUBSYSTEM   FUNCTION                    PROBE              WHY NOT BETTER");
    for (const auto& probe : probes) {
        const auto mode = probe.present ? std::string(to_string(probe.mode)) : std::string("not loaded");
        auto line = fmt::format("{:<11} {:<27} {:<18} {}", probe.subsystem, probe.function, mode, probe.why_not_better);
        line.erase(line.find_last_not_of(' ') + 1);
        writer.line(escape(line));
    }
    writer.line("");
    writer.line(problem.empty() ? "hptrace can trace here"
                                : fmt::format("hptrace cannot trace here: {}", escape(problem)));
}

void print_json(Writer& writer, const std::vector<Fact>& facts, const std::vector<ProbeStatus>& probes,
                const std::string& problem) {
    using Json = nlohmann::ordered_json;
    Json json{{"type", "doctor"}, {"schema", 1}, {"can_trace", problem.empty()}};
    if (!problem.empty()) {
        json["problem"] = problem;
    }
    json["facts"] = Json::array();
    for (const auto& fact : facts) {
        Json item{{"name", fact.name}, {"value", fact.value}};
        if (!fact.problem.empty()) {
            item["problem"] = fact.problem;
        }
        json["facts"].push_back(std::move(item));
    }
    json["probes"] = Json::array();
    for (const auto& probe : probes) {
        Json item{{"subsystem", probe.subsystem},
                  {"function", probe.function},
                  {"present", probe.present},
                  {"mode", to_string(probe.mode)}};
        if (!probe.why_not_better.empty()) {
            item["why_not_better"] = probe.why_not_better;
        }
        json["probes"].push_back(std::move(item));
    }
    writer.line(json.dump(-1, ' ', true, Json::error_handler_t::replace));
}

}  // namespace

int run_doctor(const DoctorOptions& options) {
    const std::vector<Fact> facts{kernel_fact(), btf_fact(), lockdown_fact(), capability_fact(), paranoid_fact()};
    const auto probes = Capture::probe(ProbeChoice::automatic);
    const auto problem = obstacle(facts, probes);
    Writer writer(STDOUT_FILENO);
    (options.json ? print_json : print_text)(writer, facts, probes, problem);
    return finish(writer, problem.empty() ? exit_clean : exit_failure);
}

}  // namespace hptrace
