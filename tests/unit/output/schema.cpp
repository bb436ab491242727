// SPDX-License-Identifier: GPL-2.0-or-later
// Everything that is written as JSON obeys docs/json-schema.json.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "output/samples.hpp"

using namespace hptrace;
using namespace hptrace::test;
using nlohmann::json;

namespace {

// The part of JSON Schema that the file uses.
class Schema {
public:
    Schema() : root_(json::parse(std::ifstream(HPTRACE_SCHEMA))) {}

    // What is wrong, empty: nothing.
    [[nodiscard]] std::string problem(const json& value) const { return check(root_, value, "$"); }

    [[nodiscard]] const json& definition(const std::string& name) const { return root_.at("$defs").at(name); }

private:
    [[nodiscard]] std::string check(const json& schema, const json& value, const std::string& path) const {
        if (schema.contains("$ref")) {
            const auto name = schema["$ref"].get<std::string>();
            return check(root_.at(json::json_pointer(name.substr(1))), value, path);
        }
        if (schema.contains("oneOf")) {
            return check_one_of(schema["oneOf"], value, path);
        }
        if (schema.contains("const") && schema["const"] != value) {
            return path + " is not " + schema["const"].dump();
        }
        if (schema.contains("enum") && std::ranges::find(schema["enum"], value) == schema["enum"].end()) {
            return path + " is none of " + schema["enum"].dump();
        }
        if (schema.contains("type") && !has_type(schema["type"], value)) {
            return path + " is no " + schema["type"].get<std::string>();
        }
        if (value.is_object()) {
            return check_object(schema, value, path);
        }
        if (value.is_array() && schema.contains("items")) {
            for (const auto& item : value) {
                if (auto wrong = check(schema["items"], item, path + "[]"); !wrong.empty()) {
                    return wrong;
                }
            }
        }
        if ((value.is_string() || value.is_array()) && value.empty()) {
            return path + " is empty";
        }
        return {};
    }

    [[nodiscard]] std::string check_one_of(const json& choices, const json& value, const std::string& path) const {
        std::string first;
        std::size_t fitting = 0;
        for (const auto& choice : choices) {
            const auto wrong = check(choice, value, path);
            fitting += wrong.empty() ? 1U : 0U;
            if (choice["$ref"] == "#/$defs/" + value.value("type", "")) {
                first = wrong;
            }
        }
        return fitting == 1 ? "" : path + " fits " + std::to_string(fitting) + " choices: " + first;
    }

    // The first member of the object that `schema` requires and `value` has not.
    static std::string lacking(const json& schema, const json& value) {
        for (const auto& name : schema.value("required", json::array())) {
            if (!value.contains(name)) {
                return name.get<std::string>();
            }
        }
        return {};
    }

    [[nodiscard]] std::string check_object(const json& schema, const json& value, const std::string& path) const {
        if (const auto name = lacking(schema, value); !name.empty()) {
            return path + " lacks " + name;
        }
        if (schema.contains("anyOf") &&
            std::ranges::none_of(schema["anyOf"], [&](const json& choice) { return lacking(choice, value).empty(); })) {
            return path + " lacks what all kinds of it have";
        }
        for (const auto& [name, member] : value.items()) {
            if (!schema.contains("properties") || !schema["properties"].contains(name)) {
                return path + " has an unknown " + name;
            }
            if (auto wrong = check(schema["properties"][name], member, path + "." + name); !wrong.empty()) {
                return wrong;
            }
        }
        return {};
    }

    static bool has_type(const std::string& type, const json& value) {
        return (type == "object" && value.is_object()) || (type == "array" && value.is_array()) ||
               (type == "string" && value.is_string()) || (type == "boolean" && value.is_boolean()) ||
               (type == "integer" && value.is_number_integer()) || (type == "number" && value.is_number());
    }

    json root_;
};

std::vector<std::string> everything() {
    const Paper paper;
    Writer writer(paper.fd());
    const auto output =
        make_json_output(writer, {.node = "node-2", .version = "1", .netns = 7, .clock_offset = fixed_offset});
    output->begin({});
    Beginning beginning;
    beginning.netns = 8;
    beginning.proxy = ProxyMode::ipvs;
    beginning.unread_rules = 1;
    beginning.doubts = {"a rule of KUBE-SERVICES (iptables-nft) was not understood"};
    for (const auto& row : source_rows) {
        beginning.sources.emplace(row.name, SourceStatus{SourceState::unreadable, "no"});
    }
    beginning.sources["nf_tables"] = {SourceState::used, ""};
    beginning.sources["ip_vs"] = {SourceState::unused, ""};
    output->begin(beginning);
    output->tracing("fexit");

    const auto ipvs = ipvs_node(Backend::iptables_nft);
    output->conflict(conflict(ipvs));
    output->conflict_ended(conflict(ipvs));
    auto node_port = iptables_node(Backend::iptables_nft);
    node_port.hostports = {hostport(Backend::iptables_nft, 30306)};
    node_port.hostports[0].target.port = 0;
    output->conflict(conflict(node_port));
    output->leaked({hostport(Backend::iptables_legacy), LeftOver::yes});
    output->leaked({node_port.hostports[0], LeftOver::perhaps});

    output->connection(hijack());
    auto full = hijack();
    full.connection.process = Process{1, "init"};
    full.connection.zone = 1;
    full.connection.committed = true;
    full.connection.reply_destination = end("10.0.0.1:1");
    full.service->name = ServiceName{"default", "mysql-a", ""};
    full.rule->handle = 1;
    output->connection(full);
    auto closed = existing("10.96.0.10:3306", "10.9.9.9:3306");
    closed.tcp_state = TcpState::time_wait;
    output->connection(finding(closed, ipvs));
    output->connection(finding(connection("192.168.0.2:80", "10.9.9.9:80"), ipvs));
    auto scheduled = connection("10.96.0.10:3306", "10.224.0.224:3306");
    scheduled.mechanism = Mechanism::ip_vs;
    output->connection(finding(scheduled, ipvs));
    auto unread = ipvs;
    unread.sources["ip_vs"] = {SourceState::unreadable, "no"};
    output->connection(finding(connection("192.168.0.2:80", "10.9.9.9:80"), unread));

    for (const auto where : places_of_loss) {
        output->lost({where, 5});
    }
    output->gap({1, 2, "nf_nat was reloaded"});
    output->unread({"nf_tables (Operation not permitted)"});
    output->unread({});
    output->summary({});
    Summary summary;
    summary.seconds = 1.5;
    summary.verdicts.fill(1);
    summary.seen = 1;
    summary.not_rewritten = 1;
    summary.one_packet = 1;
    summary.suppressed = 1;
    summary.unread_sources = {"nf_tables"};
    summary.unread_rules = 1;
    output->summary(summary);
    output->audited({});
    AuditSummary audited;
    audited.unread_sources = {"nf_tables"};
    audited.unread_rules = 1;
    audited.doubts = {"nf_tables could not be read"};
    output->audited(audited);
    return paper.lines();
}

}  // namespace

TEST_CASE("what is written obeys the schema") {
    const Schema schema;
    const auto lines = everything();
    CHECK(lines.size() == 28);
    for (const auto& line : lines) {
        INFO(line);
        CHECK(schema.problem(json::parse(line)) == "");
        CHECK(json::parse(line).contains("time"));
    }
}

TEST_CASE("of a dump no namespace is invented") {
    const Paper paper;
    Writer writer(paper.fd());
    const auto output = make_json_output(writer, {.node = "node-2", .netns = 0, .clock_offset = fixed_offset});
    output->conflict(conflict(ipvs_node(Backend::iptables_nft)));
    output->begin({});
    output->leaked({hostport(Backend::iptables_legacy), LeftOver::yes});
    const Schema schema;
    for (const auto& line : paper.lines()) {
        INFO(line);
        CHECK(schema.problem(json::parse(line)) == "");
        CHECK_FALSE(json::parse(line).contains("netns"));
    }
}

TEST_CASE("of all namespaces each finding says its own, and what is of all says none") {
    const Paper paper;
    Writer writer(paper.fd());
    const auto output = make_json_output(writer, {.node = "node-2", .netns = 0, .clock_offset = fixed_offset});
    auto predicted = conflict(ipvs_node(Backend::iptables_nft));
    predicted.netns = 8;
    output->conflict(predicted);
    auto shown = hijack();
    shown.connection.netns = 8;
    output->connection(shown);
    output->lost({"ring_buffer", 5});
    output->gap({1, 2, "nf_nat was reloaded"});
    output->summary({});
    const Schema schema;
    const auto lines = paper.lines();
    REQUIRE(lines.size() == 5);
    for (std::size_t i = 0; i < lines.size(); ++i) {
        const auto line = json::parse(lines[i]);
        INFO(lines[i]);
        CHECK(schema.problem(line) == "");
        CHECK(line.value("netns", 0) == (i < 2 ? 8 : 0));
    }
}

TEST_CASE("the schema refuses what is not in it") {
    const Schema schema;
    auto lost = json{{"type", "lost"}, {"schema", 1}, {"time", "2026-01-31T10:00:00Z"},
                     {"netns", 1},     {"count", 1},  {"where", "ring_buffer"}};
    CHECK(schema.problem(lost) == "");
    auto changed = lost;
    changed["surprise"] = 1;
    CHECK(schema.problem(changed) != "");
    changed = lost;
    changed.erase("count");
    CHECK(schema.problem(changed) != "");
    changed = lost;
    changed["where"] = "elsewhere";
    CHECK(schema.problem(changed) != "");
    changed = lost;
    changed.erase("time");
    CHECK(schema.problem(changed) != "");
    auto summary = json{{"type", "summary"}, {"schema", 1}, {"time", "now"}, {"exit_status", 0}, {"rewritten", 0}};
    CHECK(schema.problem(summary) != "");
    summary["lost"] = 0;
    CHECK(schema.problem(summary) == "");
}

TEST_CASE("the schema knows every verdict, reason, source and state of TCP") {
    const Schema schema;
    const auto& sources = schema.definition("node")["properties"]["sources"]["properties"];
    CHECK(sources.size() == source_rows.size());
    for (const auto& row : source_rows) {
        CHECK(sources.contains(row.name));
    }
    CHECK(schema.definition("connection")["properties"]["tcp_state"]["enum"] == json(tcp_state_names));
    const auto& verdicts = schema.definition("verdict")["enum"];
    CHECK(verdicts.size() == verdict_count);
    for (std::size_t i = 0; i < verdict_count; ++i) {
        CHECK(std::ranges::find(verdicts, json(to_string(static_cast<Verdict>(i)))) != verdicts.end());
    }
    const auto& reasons = schema.definition("reason_code")["enum"];
    for (int i = 0; i <= static_cast<int>(ReasonCode::not_served_here); ++i) {
        CHECK(std::ranges::find(reasons, json(to_string(static_cast<ReasonCode>(i)))) != reasons.end());
    }
}
