// SPDX-License-Identifier: GPL-2.0-or-later
// One JSON object per line; docs/json-schema.json describes them. A field that is not known is left out.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "judge/words.hpp"
#include "output/output.hpp"

namespace hptrace {

namespace {

using Json = nlohmann::ordered_json;

constexpr int schema_version = 1;

void set(Json& json, const char* name, const std::string& text) {
    if (!text.empty()) {
        json[name] = text;
    }
}

void set(Json& json, const char* name, const std::vector<std::string>& texts) {
    if (!texts.empty()) {
        json[name] = texts;
    }
}

constexpr std::string_view mode_name(ProxyMode mode) {
    switch (mode) {
        case ProxyMode::iptables:
            return "iptables";
        case ProxyMode::ipvs:
            return "ipvs";
        case ProxyMode::nftables:
            return "nftables";
        case ProxyMode::other_ipvs:
            return "other_ipvs";
        case ProxyMode::none:
            break;
    }
    return "none";
}

// As in a dump's meta.json.
constexpr std::string_view state_name(SourceState state) {
    switch (state) {
        case SourceState::unused:
            return "unused";
        case SourceState::used:
            return "used";
        case SourceState::unreadable:
            break;
    }
    return "unreadable";
}

Json endpoint_json(const Endpoint& endpoint) {
    return {{"ip", to_string(endpoint.ip)}, {"port", endpoint.port}};
}

Json pod_json(const Pod& pod) {
    Json json = Json::object();
    set(json, "namespace", pod.ns);
    set(json, "name", pod.name);
    if (pod.by_own_account) {
        json["told_by"] = "pod";
    }
    return json;
}

Json with_pod(Json json, const std::optional<Pod>& pod) {
    if (pod) {
        json["pod"] = pod_json(*pod);
    }
    return json;
}

Json service_json(const Service& service) {
    Json json{{"kind", to_string(service.kind)}};
    if (service.name) {
        set(json, "namespace", service.name->ns);
        set(json, "name", service.name->name);
        set(json, "port", service.name->port);
    }
    return json;
}

Json rule_json(const HostPortRule& rule, bool stale, std::optional<Attribution> attribution,
               const std::optional<Pod>& pod) {
    Json json{{"producer", to_string(rule.producer)},
              {"backend", to_string(rule.backend)},
              {"family", rule.family == Family::ipv4 ? "ip" : "ip6"}};
    set(json, "table", rule.table);
    set(json, "chain", rule.chain);
    if (rule.handle) {
        json["handle"] = *rule.handle;
    }
    set(json, "text", rule.text);
    set(json, "network", rule.network);
    set(json, "container_id", rule.container_id);
    json["stale"] = stale;
    if (attribution) {
        json["attribution"] = to_string(*attribution);
    }
    return with_pod(std::move(json), pod);
}

Json endpoints_json(const std::vector<Endpoint>& endpoints) {
    Json json = Json::array();
    for (const auto& endpoint : endpoints) {
        json.push_back(endpoint_json(endpoint));
    }
    return json;
}

class JsonOutput final : public Output {
public:
    JsonOutput(Writer& writer, JsonOptions options) : writer_(writer), options_(std::move(options)) {}

    void begin(const Beginning& beginning) override {
        auto json = record("node");
        if (beginning.netns != 0) {
            json["netns"] = beginning.netns;
        }
        set(json, "version", options_.version);
        json["proxy"] = mode_name(beginning.proxy);
        json["services"] = beginning.services;
        json["hostports"] = beginning.hostports;
        Json sources = Json::object();
        for (const auto& [name, status] : beginning.sources) {
            sources[name] = {{"state", state_name(status.state)}};
            set(sources[name], "why", status.why);
        }
        json["sources"] = std::move(sources);
        if (beginning.unread_rules > 0) {
            json["unread_rules"] = beginning.unread_rules;
        }
        set(json, "doubts", beginning.doubts);
        write(json);
    }
    void tracing(std::string_view) override {}

    void conflict(const Conflict& conflict) override { write_conflict("conflict", conflict); }
    void conflict_ended(const Conflict& conflict) override { write_conflict("conflict_ended", conflict); }

    void leaked(const LeakedRule& leaked) override {
        const auto& rule = leaked.rule;
        const bool certain = leaked.leftover == LeftOver::yes;
        auto json = record("leaked_rule");
        json["certain"] = certain;
        json["protocol"] = to_string(rule.protocol);
        json["rule"] = rule_json(rule, certain, std::nullopt, std::nullopt);
        json["rewritten"] =
            rule.target.port != 0 ? endpoint_json(rule.target) : Json{{"ip", to_string(rule.target.ip)}};
        json["advice"] = advice_for(leaked);
        write(json);
    }

    void connection(const Finding& finding) override {
        const auto& connection = finding.connection;
        Json json{{"type", "connection"}, {"schema", schema_version}, {"time", time(connection.boot_ns)}};
        set(json, "node", options_.node);
        json["netns"] = connection.netns;
        if (connection.zone != 0) {
            json["zone"] = connection.zone;
        }
        json["protocol"] = to_string(connection.protocol);
        json["verdict"] = to_string(finding.verdict);
        json["existing"] = connection.existing;
        if (connection.tcp_state) {
            json["tcp_state"] = to_string(*connection.tcp_state);
        }
        if (connection.committed) {
            json["committed"] = *connection.committed;
        }
        json["client"] = with_pod(endpoint_json(connection.client), finding.client_pod);
        json["original"] = endpoint_json(connection.original);
        if (finding.service) {
            json["original"]["service"] = service_json(*finding.service);
        }
        json["rewritten"] = with_pod(endpoint_json(connection.rewritten), finding.rewritten_pod);
        if (connection.reply_destination) {
            json["reply_destination"] = endpoint_json(*connection.reply_destination);
        }
        if (connection.process) {
            json["process"] = {{"pid", connection.process->pid}, {"comm", connection.process->comm}};
        }
        json["mechanism"] = connection.mechanism == Mechanism::nf_nat ? "nf_nat" : "ip_vs";
        if (finding.service) {
            set_expected(json, finding.expected, finding.expected_total);
        }
        if (finding.rule) {
            json["rule"] =
                rule_json(*finding.rule, finding.leftover == LeftOver::yes, finding.attribution, finding.rule_pod);
        }
        set(json, "conflict_id", finding.conflict_id);
        set_reason(json, finding.reason_code, finding.reason, advice_for(finding));
        if (finding.state_boot_ns != 0) {
            const auto age =
                connection.boot_ns > finding.state_boot_ns ? connection.boot_ns - finding.state_boot_ns : 0;
            json["state_age_ms"] = age / 1'000'000;
        }
        write(json);
    }

    void lost(const Loss& loss) override {
        auto json = record("lost");
        json["count"] = loss.count;
        json["where"] = loss.where;
        write(json);
    }

    void gap(const Gap& gap) override {
        auto json = record("gap");
        json["from"] = time(gap.from_boot_ns);
        json["to"] = time(gap.to_boot_ns);
        json["why"] = gap.why;
        write(json);
    }

    void unread(const std::vector<std::string>& sources) override {
        auto json = record("unread");
        set(json, "sources", sources);
        write(json);
    }

    void summary(const Summary& summary) override {
        auto json = record("summary");
        if (summary.seconds) {
            json["seconds"] = *summary.seconds;
        }
        json["rewritten"] = summary.judged();
        Json verdicts = Json::object();
        for (std::size_t i = 0; i < summary.verdicts.size(); ++i) {
            if (summary.verdicts.at(i) > 0) {
                verdicts[std::string(to_string(static_cast<Verdict>(i)))] = summary.verdicts.at(i);
            }
        }
        if (!verdicts.empty()) {
            json["verdicts"] = std::move(verdicts);
        }
        if (summary.seen) {
            json["seen"] = *summary.seen;
        }
        if (summary.not_rewritten) {
            json["not_rewritten"] = *summary.not_rewritten;
        }
        if (summary.one_packet > 0) {
            json["one_packet"] = summary.one_packet;
        }
        if (summary.suppressed > 0) {
            json["suppressed"] = summary.suppressed;
        }
        json["lost"] = summary.lost;
        set(json, "unread_sources", summary.unread_sources);
        if (summary.unread_rules > 0) {
            json["unread_rules"] = summary.unread_rules;
        }
        set(json, "doubts", summary.doubts);
        json["exit_status"] = summary.exit_status;
        write(json);
    }

    void audited(const AuditSummary& summary) override {
        auto json = record("summary");
        json["conflicts"] = {{"hostport", summary.taken},
                             {"depends", summary.possible},
                             {"service", summary.served},
                             {"harmless", summary.harmless}};
        json["leaked"] = summary.leaked;
        set(json, "unread_sources", summary.unread_sources);
        if (summary.unread_rules > 0) {
            json["unread_rules"] = summary.unread_rules;
        }
        set(json, "doubts", summary.doubts);
        json["exit_status"] = summary.exit_status;
        write(json);
    }

private:
    void write_conflict(const char* type, const Conflict& conflict) {
        const auto& service = conflict.service;
        auto json = record(type);
        if (conflict.netns != 0) {
            json["netns"] = conflict.netns;
        }
        json["protocol"] = to_string(service.protocol);
        Json original = Json::object();
        if (service.ip && service.kind != ServiceKind::node_port) {
            original["ip"] = to_string(*service.ip);
        }
        original["port"] = service.port;
        original["service"] = service_json(service);
        json["original"] = std::move(original);
        json["rewritten"] = endpoint_json(
            {conflict.rule.target.ip, conflict.rule.target.port != 0 ? conflict.rule.target.port : service.port});
        set_expected(json,
                     {service.endpoints.begin(),
                      service.endpoints.begin() +
                          static_cast<std::ptrdiff_t>(std::min(expected_limit, service.endpoints.size()))},
                     service.endpoints.size());
        json["rule"] = rule_json(conflict.rule, conflict.leftover == LeftOver::yes, std::nullopt, conflict.rule_pod);
        json["winner"] = to_string(conflict.winner);
        json["harmless"] = conflict.bypass;
        set(json, "depends_on", conflict.depends_on);
        json["conflict_id"] = conflict.conflict_id;
        set_reason(json, conflict.reason_code, conflict.reason, advice_for(conflict));
        write(json);
    }

    [[nodiscard]] Json record(const char* type) const {
        Json json{{"type", type}, {"schema", schema_version}, {"time", time(options_.boot_ns())}};
        set(json, "node", options_.node);
        if (options_.netns != 0) {  // a dump does not know it
            json["netns"] = options_.netns;
        }
        return json;
    }

    [[nodiscard]] std::string time(std::uint64_t boot_ns) const {
        return utc_time(static_cast<std::int64_t>(boot_ns) + options_.clock_offset());
    }

    static void set_expected(Json& json, const std::vector<Endpoint>& expected, std::size_t total) {
        if (!expected.empty()) {
            json["expected"] = endpoints_json(expected);
        }
        json["expected_total"] = total;
    }

    static void set_reason(Json& json, std::optional<ReasonCode> code, const std::string& reason,
                           const Advice& advice) {
        if (code) {
            json["reason_code"] = to_string(*code);
        }
        set(json, "reason", reason);
        set(json, "advice", advice.text());
    }

    void write(const Json& json) {
        // ASCII only, and what is not UTF-8 is replaced: names and comments come from outside.
        writer_.line(json.dump(-1, ' ', true, Json::error_handler_t::replace));
    }

    Writer& writer_;
    JsonOptions options_;
};

}  // namespace

std::unique_ptr<Output> make_json_output(Writer& writer, JsonOptions options) {
    return std::make_unique<JsonOutput>(writer, std::move(options));
}

}  // namespace hptrace
