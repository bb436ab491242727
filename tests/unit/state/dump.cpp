// SPDX-License-Identifier: GPL-2.0-or-later
// Dumps of real nodes (tests/dumps): what they say, against what is known of the cluster they are from.
#include "state/dump.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "dump_folder.hpp"
#include "expected_services.hpp"
#include "same_rules.hpp"
#include "state/iptables_save.hpp"
#include "state/nft_json.hpp"

using namespace hptrace;
using nlohmann::json;

namespace {

constexpr std::array families{Family::ipv4, Family::ipv6};

json read_json(const fs::path& path) {
    return json::parse(contents_of(path));
}

std::string hostport_line(Family family, Protocol protocol, std::uint16_t port, const Endpoint& target) {
    return fmt::format("{} {}/{} {}", family == Family::ipv4 ? 4 : 6, port, to_string(protocol), to_string(target));
}

// What tables mean: a line for each Service, HostPort rule and rule that was not understood, in their order.
std::vector<std::string> meaning_of(const std::vector<RuleTable>& tables) {
    NodeState state;
    interpret_rules(tables, state);
    std::vector<std::string> lines{std::string(to_string(state.proxy))};
    std::ranges::transform(state.services, std::back_inserter(lines), described);
    for (const auto& rule : state.hostports) {
        lines.push_back(fmt::format("{} {} {}{}{}{} {}", rule.order, rule.entry_chain, rule.in_prerouting,
                                    rule.in_output, rule.local_only, rule.conditional, rule.container_id) +
                        rule.text);
    }
    for (const auto& nat : state.nat_tables) {
        lines.push_back(fmt::format("{} {} {} {} {}", nat.prerouting.kube_services, nat.prerouting.hostport,
                                    nat.output.kube_services, nat.output.hostport, nat.ipvs_accept));
    }
    for (const auto& rule : state.unread_rules) {
        lines.push_back(rule.chain + ' ' + rule.text);
    }
    return lines;
}

// What the intruder's runtime asked portmap for, and whose sandbox it is.
struct Intruder {
    std::string container_id;
    std::set<std::string> ports;
};
Intruder intruder(const fs::path& dump, const json& cluster) {
    for (const auto& entry : fs::directory_iterator(dump / "cni-results")) {
        const auto cache = read_json(entry.path());
        const auto mappings = cache.value("/capabilityArgs/portMappings"_json_pointer, json::array());
        if (mappings.empty()) {
            continue;
        }
        Intruder found{.container_id = cache["containerId"], .ports = {}};
        for (const auto family : families) {
            for (const auto& mapping : mappings) {
                found.ports.insert(hostport_line(
                    family, parse_protocol(mapping["Protocol"].get<std::string>()).value(), mapping["HostPort"],
                    {address_of_pod(cluster, cluster["hostport_pod"], family), mapping["ContainerPort"]}));
            }
        }
        return found;
    }
    throw std::runtime_error("no pod with hostPorts");
}

// The objects of nft.json that are not of iptables-nft, in an order nft takes them in; empty: none.
std::string native_part(const fs::path& file) {
    const std::set<std::string> of_iptables{"nat", "filter", "mangle", "raw", "security"};
    const auto ruleset = read_json(file);
    json objects = json::array();
    for (const std::string kind : {"table", "chain", "set", "map", "rule"}) {  // maps name chains
        for (const auto& object : ruleset["nftables"]) {
            if (object.contains(kind) && !of_iptables.contains(object[kind].value("table", "")) &&
                !of_iptables.contains(kind == "table" ? object[kind].value("name", "") : "")) {
                objects.push_back(object);
            }
        }
    }
    return objects.empty() ? std::string() : json{{"nftables", objects}}.dump();
}

}  // namespace

TEST_CASE("every dump is read, and everything in it that matters is understood", "[dump]") {
    REQUIRE_FALSE(dumps().empty());
    for (const auto& dump : dumps()) {
        INFO(dump.string());
        const auto provenance = read_json(dump / "provenance.json");
        const auto state = read(dump);
        CHECK(state.node == "node");
        CHECK(state.netns == 0);
        CHECK(state.all_sources_read());
        CHECK(state.sources.size() == 8);
        CHECK(state.sources.at("routes").state == SourceState::used);
        CHECK(state.sources.at("cni").state == SourceState::used);
        CHECK(state.sandboxes_complete);
        CHECK(state.sandboxes.size() == 3);
        for (const auto* local : {"127.0.0.1", "127.1.2.3", "192.168.0.2", "192.168.0.22", "::1", "fd00:192:168::2"}) {
            CHECK(state.find_local(parse_address(local).value()) != nullptr);
        }
        CHECK(state.find_local(parse_address("10.224.0.4").value()) == nullptr);
        CHECK(state.proxy == (provenance["mode"] == "nftables" ? ProxyMode::nftables
                              : provenance["mode"] == "ipvs"   ? ProxyMode::ipvs
                                                               : ProxyMode::iptables));
        for (const auto& rule : state.unread_rules) {
            FAIL_CHECK(rule.chain << ": " << rule.text);
        }
    }
}

TEST_CASE("the Services of iptables and nftables mode are the cluster's", "[dump]") {
    const auto cluster = read_json(fs::path(HPTRACE_DUMPS) / "kube-cluster.json");
    std::size_t checked = 0;
    for (const auto& dump : dumps()) {
        const auto provenance = read_json(dump / "provenance.json");
        if (provenance["mode"] == "ipvs") {
            continue;
        }
        INFO(dump.string());
        const auto proxy = kube_proxy_of(provenance);
        auto expected = Expected(cluster, proxy).lines();
        REQUIRE(expected.size() > 30 * proxy.families.size());
        std::ranges::sort(expected);
        std::vector<std::string> found;
        for (const auto& service : read(dump).services) {
            REQUIRE(service.name);
            CHECK(service.proxy == (proxy.mode == "nftables" ? ServiceProxy::nftables : ServiceProxy::iptables));
            if (service.name->name != "kubernetes") {  // the apiserver's own is not described
                found.push_back(described(service));
            }
        }
        std::ranges::sort(found);
        CHECK(found == expected);
        ++checked;
    }
    CHECK(checked >= 20);
}

TEST_CASE("policies Local are seen, and whether an endpoint is here", "[dump]") {
    std::size_t checked = 0;
    for (const auto& dump : dumps()) {
        const auto proxy = kube_proxy_of(read_json(dump / "provenance.json"));
        if (proxy.mode == "ipvs" || proxy.minor < 25) {
            continue;
        }
        INFO(dump.string());
        std::set<std::string> local;
        std::set<std::string> here;
        for (const auto& service : read(dump).services) {
            CHECK((service.backend == Backend::nftables) == (proxy.mode == "nftables"));
            if (service.external_local) {
                CHECK(service.kind != ServiceKind::cluster_ip);
                local.insert(service.name->name);
            }
            if (service.handles_outside) {
                here.insert(service.name->name);
            }
            // Nftables mode drops the others before nat.
            CHECK(service.allowed_sources.empty() ==
                  (proxy.mode == "nftables" || service.kind != ServiceKind::load_balancer ||
                   service.name->name != "balancer-ranges"));
        }
        CHECK(local == std::set<std::string>{"balancer-local", "balancer-local-elsewhere", "nodeport-local",
                                             "nodeport-local-elsewhere"});
        CHECK(here == std::set<std::string>{"balancer-local", "nodeport-local"});
        ++checked;
    }
    CHECK(checked >= 15);
}

// By what each generation's rules differ from the others', so that none is lost when the dumps are made anew.
TEST_CASE("the dumps of iptables mode are of every format generation", "[dump]") {
    const auto has = [](const std::string& file, const std::string& chain, std::string_view text,
                        std::string_view also = "") {
        std::istringstream rules(contents_of(fs::path(HPTRACE_DUMPS) / ("kube-" + file + "tables-nft.save")));
        bool found = false;
        for (std::string rule; std::getline(rules, rule);) {
            found = found || (rule.starts_with("-A KUBE-" + chain) && rule.find(text) != std::string::npos &&
                              rule.find(also) != std::string::npos);
        }
        return found;
    };
    CHECK(has("1.16-iptables-after/ip", "SERVICES", "default/balancer: loadbalancer IP"));
    CHECK_FALSE(has("1.20-iptables-after/ip", "SERVICES", "default/balancer: loadbalancer IP"));
    for (const std::string inline_masquerade :
         {"1.16-iptables-after/ip", "1.20-iptables-after/ip", "1.21-iptables-after/ip6"}) {
        INFO(inline_masquerade);
        CHECK(has(inline_masquerade, "SERVICES", "-j KUBE-MARK-MASQ"));
        CHECK(has(inline_masquerade, "NODEPORTS", "-j KUBE-MARK-MASQ"));
        CHECK(has(inline_masquerade, "SERVICES", "-j KUBE-FW-"));
        CHECK(has(inline_masquerade, "FW-", "-j KUBE-XLB-"));
        CHECK(has(inline_masquerade, "SERVICES", "--physdev-is-in") == !inline_masquerade.starts_with("1.21"));
    }
    for (const std::string family : {"ip", "ip6"}) {
        INFO(family);
        CHECK_FALSE(has("1.23-iptables-after/" + family, "SERVICES", "-j KUBE-MARK-MASQ"));
        CHECK(has("1.23-iptables-after/" + family, "SVC-", "-j KUBE-MARK-MASQ"));
        CHECK(has("1.23-iptables-after/" + family, "NODEPORTS", "-j KUBE-XLB-"));
        CHECK_FALSE(has("1.24-iptables-after/" + family, "NODEPORTS", "-j KUBE-XLB-"));
        CHECK(has("1.24-iptables-after/" + family, "NODEPORTS", "-j KUBE-EXT-"));
        CHECK(has("1.24-iptables-after/" + family, "EXT-", "-j KUBE-SVL-"));
        CHECK(has("1.24-iptables-after/" + family, "FW-", "-j KUBE-MARK-DROP"));
        CHECK_FALSE(has("1.28-iptables-after/" + family, "FW-", "-j KUBE-MARK-DROP"));
        CHECK(has("1.28-iptables-after/" + family, "PROXY-FIREWALL", "-j DROP"));
        for (const std::string chain : {"SVC-", "SVL-", "SEP-"}) {
            const auto commented = chain == "SEP-" ? "-j DNAT" : "-j KUBE-SEP-";
            CHECK(has("1.37-iptables-after/" + family, chain, commented, "--comment"));
            CHECK(has("1.37-iptables-large-cluster/" + family, chain, commented));
            CHECK_FALSE(has("1.37-iptables-large-cluster/" + family, chain, commented, "--comment"));
        }
    }
}

// ip_vs holds no names, and has a virtual server for a NodePort on every address of the node.
TEST_CASE("the Services of ipvs mode are the cluster's, but for their names", "[dump]") {
    const auto cluster = read_json(fs::path(HPTRACE_DUMPS) / "kube-cluster.json");
    std::set<std::string> expected;
    const Expected described_cluster(cluster, {.mode = "ipvs", .minor = 37});
    for (const auto& line : described_cluster.lines()) {
        if (const auto text = line.substr(line.find(' ') + 1); !text.starts_with("NodePort")) {
            expected.insert(text);
        }
    }
    std::size_t checked = 0;
    for (const auto& dump : dumps()) {
        if (read_json(dump / "provenance.json")["mode"] != "ipvs") {
            continue;
        }
        INFO(dump.string());
        std::set<std::string> found;
        std::set<std::uint16_t> node_ports;
        for (const auto& service : read(dump).services) {
            CHECK(!service.name);
            if (service.kind == ServiceKind::node_port) {
                node_ports.insert(service.port);
            } else if (service.ip != parse_address("10.96.0.1")) {  // the apiserver's own is not described
                const auto text = described(service);
                found.insert(text.substr(text.find(' ') + 1));
            }
        }
        CHECK(found == expected);
        CHECK(node_ports ==
              std::set<std::uint16_t>{30081, 30082, 30307, 30308, 30309, 30443, 30444, 30445, 30446, 30514, 30868});
        ++checked;
    }
    CHECK(checked >= 2);
}

TEST_CASE("the HostPort rules are the intruder's", "[dump]") {
    const auto cluster = read_json(fs::path(HPTRACE_DUMPS) / "kube-cluster.json");
    for (const auto& dump : dumps()) {
        INFO(dump.string());
        const auto pod = intruder(dump, cluster);
        REQUIRE(pod.ports.size() == 72);
        const auto kind = read_json(dump / "provenance.json")["case"];
        const bool native = kind["portmap_backend"] == "nftables";
        const auto backend = native                              ? Backend::nftables
                             : kind["portmap_iptables"] == "nft" ? Backend::iptables_nft
                                                                 : Backend::iptables_legacy;
        std::set<std::string> found;
        const auto state = read(dump);
        for (const auto& rule : state.hostports) {
            CHECK(rule.backend == backend);
            CHECK(rule.container_id == pod.container_id);
            CHECK(rule.network == (native ? "" : "cbr0"));
            CHECK(rule.producer == Producer::portmap);
            CHECK(rule.local_only);
            CHECK(rule.local_only_output);
            CHECK((rule.in_prerouting && rule.in_output && !rule.conditional && !rule.host_ip));
            CHECK(rule.handle.has_value() == native);
            CHECK(rule.port.first == rule.port.last);
            CHECK(found.insert(hostport_line(rule.family, rule.protocol, rule.port.first, rule.target)).second);
            const auto* const sandbox = state.find_sandbox(rule.container_id);
            REQUIRE(sandbox != nullptr);
            CHECK(sandbox->pod_name == "intruder");
        }
        if (backend != Backend::iptables_legacy) {
            CHECK(found == pod.ports);
            continue;
        }
        // ip6tables-legacy takes one --dport for another, so portmap leaves out most of IPv6 (docs/kube-tier.md).
        std::set<std::string> wanted;
        std::ranges::copy_if(pod.ports, std::inserter(wanted, wanted.end()),
                             [&](const std::string& line) { return line.starts_with("4 ") || found.contains(line); });
        CHECK(found == wanted);
        CHECK(found.size() > 36);
    }
}

TEST_CASE("xtables rules of the dumps mean the same to the reader of the kernel", "[dump]") {
    for (const auto& dump : dumps()) {
        for (const auto family : families) {
            for (const std::string backend : {"legacy", "nft"}) {
                const auto file = dump / ((family == Family::ipv4 ? "iptables-" : "ip6tables-") + backend + ".save");
                if (!fs::exists(file)) {
                    continue;
                }
                INFO(file.string());
                std::string text = contents_of(file);
                // Objects of nfacct are none of iptables-restore's making; xt_ipvs needs a kernel with ip_vs.
                for (const std::string_view match : {" -m nfacct ", " -m ipvs "}) {
                    for (auto at = text.find(match); at != std::string::npos; at = text.find(match, at)) {
                        text.erase(at, text.find(" -j ", at) - at);
                    }
                }
                const bool sets = fs::exists(dump / "ipset.save");
                const auto [native, meaning] = in_fresh_netns([&] {
                    if (sets) {
                        feed("ipset restore", contents_of(dump / "ipset.save"));
                    }
                    restore(backend, family, text);
                    const auto tables = read_all();
                    return std::pair(unpacked(tables), meaning_of(tables));
                });
                const auto parsed = parse_iptables_save(
                    text, backend == "nft" ? Backend::iptables_nft : Backend::iptables_legacy, family);
                REQUIRE(parsed);
                check_same(*parsed, native);
                CHECK(meaning_of(*parsed) == meaning);
            }
        }
    }
}

TEST_CASE("native nft tables of the dumps mean the same to the reader of the kernel", "[dump]") {
    std::size_t checked = 0;
    for (const auto& dump : dumps()) {
        const auto text = fs::exists(dump / "nft.json") ? native_part(dump / "nft.json") : std::string();
        if (text.empty()) {
            continue;
        }
        INFO(dump.string());
        const auto native = in_fresh_netns([&] {
            feed("nft -j -f -", text);
            return value_of(read_nf_tables());
        });
        const auto parsed = parse_nft_json(text);
        REQUIRE(parsed);
        check_same(*parsed, native);
        ++checked;
    }
    CHECK(checked >= 7);
}
