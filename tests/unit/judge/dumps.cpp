// SPDX-License-Identifier: GPL-2.0-or-later
// Verdicts and predictions on dumps of real nodes (tests/dumps), held against who answered there.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "judge/judge.hpp"
#include "state/dump.hpp"

using namespace hptrace;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// Phases in which the rules are those of the dump, that the intruder's hostPorts are in.
constexpr std::array<std::string_view, 2> with_hostports{"hostport", "restarted"};

struct Dump {
    std::string name;
    json provenance;
    NodeStatePtr state;
};

std::vector<Dump> dumps() {
    std::vector<Dump> found;
    for (const auto& entry : fs::directory_iterator(HPTRACE_DUMPS)) {
        if (entry.is_directory()) {
            auto state = read_dump(entry.path());
            REQUIRE(state);
            found.push_back({entry.path().filename(), json::parse(std::ifstream(entry.path() / "provenance.json")),
                             *std::move(state)});
        }
    }
    std::ranges::sort(found, {}, &Dump::name);
    return found;
}

Endpoint asked_for(const json& row) {
    return {parse_address(row["ip"].get<std::string>()).value(), row["port"]};
}

Protocol protocol_of(const json& row) {
    return parse_protocol(row["protocol"].get<std::string>()).value();
}

// Who asked (tests/kube/tier/services.py).
Endpoint client(const std::string& name, Family family) {
    const bool ipv4 = family == Family::ipv4;
    const auto* const address = name == "pod"    ? ipv4 ? "10.224.0.2" : "fd00:10:224::2"
                                : name == "node" ? ipv4 ? "192.168.0.2" : "fd00:192:168::2"
                                : ipv4           ? "192.168.0.50"
                                                 : "fd00:192:168::50";
    return {parse_address(address).value(), 40000};
}

// Where the intruder's hostPort leads; nothing: it has none there.
std::optional<Endpoint> hostport_target(const NodeState& state, const Endpoint& destination, Protocol protocol) {
    const auto rule = std::ranges::find_if(state.hostports, [&](const HostPortRule& candidate) {
        return hostport_matches(state, candidate, destination, protocol, false);
    });
    return rule == state.hostports.end() ? std::nullopt : std::optional(rule->target);
}

// Who answered a row's client in each of those phases.
std::vector<std::string> answers(const Dump& dump, const json& row, const std::string& client_name) {
    const auto& phases = dump.provenance["phases"];
    std::vector<std::string> found;
    for (std::size_t i = 0; i < phases.size(); ++i) {
        if (std::ranges::find(with_hostports, phases[i].get<std::string>()) != with_hostports.end()) {
            found.push_back(row["answered"][client_name][i]);
        }
    }
    return found;
}

}  // namespace

TEST_CASE("whoever answered, the verdict is the right one") {
    std::size_t hijacked = 0;
    std::size_t answered = 0;
    for (const auto& dump : dumps()) {
        const bool ipvs = dump.provenance["mode"] == "ipvs";
        const bool nftables = dump.provenance["mode"] == "nftables";
        for (const auto& row : dump.provenance["traffic"]) {
            const auto destination = asked_for(row);
            const auto* const service = dump.state->find_service(destination, protocol_of(row));
            const auto of_service = !row["service"].get<std::string>().empty();
            INFO(dump.name << " " << row["service"] << " " << to_string(destination));
            CHECK((service != nullptr) == of_service);
            for (const std::string name : {"pod", "node", "outside"}) {
                for (const auto& by : answers(dump, row, name)) {
                    INFO("from " << name << ": " << by);
                    Connection made;
                    made.client = client(name, destination.ip.family);
                    made.original = destination;
                    made.protocol = protocol_of(row);
                    if (by == "service") {
                        REQUIRE(service != nullptr);
                        made.mechanism = ipvs ? Mechanism::ip_vs : Mechanism::nf_nat;
                        for (const auto& endpoint : service->endpoints) {
                            made.rewritten = endpoint;
                            CHECK(to_string(judge(made, *dump.state).verdict) == to_string(Verdict::ok));
                        }
                        answered += service->endpoints.size();
                    } else if (by == "hostport") {
                        const auto target = hostport_target(*dump.state, destination, made.protocol);
                        REQUIRE(target);
                        made.rewritten = *target;
                        const auto finding = judge(made, *dump.state);
                        CHECK(to_string(finding.verdict) ==
                              to_string(of_service ? Verdict::hijacked : Verdict::hostport));
                        hijacked += finding.verdict == Verdict::hijacked ? 1 : 0;
                        if (nftables && of_service) {
                            const auto expected =
                                service->endpoints.empty() ? ReasonCode::no_endpoints
                                : name == "outside" && row["service"].get<std::string>().ends_with("-elsewhere")
                                    ? ReasonCode::etp_local
                                    : ReasonCode::hook_order;
                            CHECK(to_string(finding.reason_code.value()) == to_string(expected));
                        }
                    }
                }
            }
        }
    }
    CHECK(hijacked > 500);
    CHECK(answered > 2000);
}

TEST_CASE("what is predicted with certainty is who answered") {
    std::size_t certain = 0;
    std::size_t open = 0;
    for (const auto& dump : dumps()) {
        if (dump.provenance["mode"] != "nftables") {
            continue;
        }
        const auto conflicts = find_conflicts(*dump.state, {}).conflicts;
        CHECK_FALSE(conflicts.empty());
        for (const auto& row : dump.provenance["traffic"]) {
            const auto destination = asked_for(row);
            INFO(dump.name << " " << row["service"] << " " << to_string(destination));
            const auto conflict = std::ranges::find_if(conflicts, [&](const Conflict& candidate) {
                return candidate.service.ip == destination.ip && candidate.service.port == destination.port &&
                       candidate.service.protocol == protocol_of(row);
            });
            for (const auto& by : answers(dump, row, "outside")) {
                if (conflict == conflicts.end()) {
                    CHECK((by != "hostport" || row["service"] == ""));
                } else if (conflict->winner == Winner::hostport) {
                    CHECK(by == "hostport");
                    ++certain;
                } else {
                    CHECK(conflict->winner == Winner::depends);
                    CHECK(by != "nobody");
                    ++open;
                }
            }
        }
    }
    CHECK(certain > 20);
    CHECK(open > 100);
}
