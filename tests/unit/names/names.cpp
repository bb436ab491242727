// SPDX-License-Identifier: GPL-2.0-or-later
#include "names/names.hpp"

#include <catch2/catch_test_macros.hpp>

#include "judge/node.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

NodePods::Entry pod(const char* name, const char* address, std::vector<NodePods::HostPort> host_ports = {}) {
    return {.pod = {"api", name},
            .ips = {ip(address)},
            .host_ports = std::move(host_ports),
            .terminating = false,
            .created = {}};
}

ClusterNames cluster() {
    ClusterNames names;
    names.services.add(end("10.96.0.10:3306"), Protocol::tcp, {"api", "mysql-a", "mysql"});
    names.services.add_node_port(30306, Protocol::tcp, {"api", "mysql-np", ""});
    names.services.finish();
    names.endpoints.add(end("10.224.0.224:3306"), Protocol::tcp, {"api", "mysql-a-0"});
    names.endpoints.finish();
    names.pods.add(pod("mysql-b-0", "10.224.0.222", {{.port = 3306, .protocol = Protocol::tcp}}));
    names.pods.add(pod("app-1", "10.224.0.223"));
    names.pods.finish();
    return names;
}

Finding hijack(NodeState state, const ClusterNames* names) {
    state.index();
    auto finding = judge(connection("10.96.0.10:3306", "10.224.0.222:3306"), state);
    add_names(finding, state, names);
    return finding;
}

}  // namespace

TEST_CASE("the CNI cache names pods first, the API what that leaves open") {
    const auto names = cluster();
    auto state = ipvs_node(Backend::iptables_nft);
    auto finding = hijack(state, &names);
    CHECK(finding.client_pod == Pod{"default", "app-1"});
    CHECK(finding.rewritten_pod == Pod{"default", "mysql-b-0"});
    CHECK(finding.rule_pod == Pod{"default", "mysql-b-0"});

    // Before what pods say of themselves, which is marked.
    for (auto& sandbox : state.sandboxes) {
        sandbox.named_by_itself = true;
    }
    CHECK(hijack(state, &names).client_pod == Pod{"api", "app-1"});
    CHECK(hijack(state, &names).rewritten_pod == Pod{"api", "mysql-b-0"});
    CHECK(hijack(state, &names).rule_pod == Pod{"api", "mysql-b-0"});
    CHECK(hijack(state, nullptr).rule_pod == Pod{"default", "mysql-b-0", true});

    state.sandboxes.clear();
    state.sandboxes_complete = false;  // kept elsewhere
    finding = hijack(state, &names);
    CHECK(finding.client_pod == Pod{"api", "app-1"});
    CHECK(finding.rewritten_pod == Pod{"api", "mysql-b-0"});
    CHECK(finding.rule_pod == Pod{"api", "mysql-b-0"});

    finding = hijack(state, nullptr);
    CHECK_FALSE(finding.client_pod);
    CHECK_FALSE(finding.rule_pod);
}

TEST_CASE("a pod whose container is not known is named at its address, not as the owner of a rule") {
    auto state = ipvs_node(Backend::iptables_nft);
    for (auto& sandbox : state.sandboxes) {
        sandbox.container_id.clear();
    }
    state.sandboxes_complete = false;
    const auto finding = hijack(state, nullptr);
    CHECK(finding.client_pod == Pod{"default", "app-1"});
    CHECK(finding.rewritten_pod == Pod{"default", "mysql-b-0"});
    CHECK(finding.leftover == LeftOver::no);
    CHECK_FALSE(finding.rule_pod);
}

TEST_CASE("a leaked rule belongs to nobody, whoever has the address now") {
    const auto names = cluster();
    auto state = ipvs_node(Backend::iptables_nft);
    state.sandboxes.erase(state.sandboxes.begin());
    state.gone_sandboxes = {{mysql_b_id, 0}};
    state.boot_ns = 2 * longest_set_up_ns;
    const auto finding = hijack(state, &names);
    REQUIRE(finding.leftover == LeftOver::yes);
    CHECK_FALSE(finding.rule_pod);
}

TEST_CASE("the API names the Services that ip_vs does not, and no others") {
    const auto names = cluster();
    const ServiceName by_api{"api", "mysql-a", "mysql"};
    CHECK(hijack(ipvs_node(Backend::iptables_nft), &names).service->name == by_api);
    CHECK_FALSE(hijack(ipvs_node(Backend::iptables_nft), nullptr).service->name);
    CHECK(hijack(iptables_node(Backend::iptables_nft), &names).service->name ==
          ServiceName{"default", "mysql-a", "mysql"});

    auto state = ipvs_node(Backend::iptables_nft);
    state.hostports.push_back(hostport(Backend::iptables_nft, 30306));
    state.index();
    auto conflicts = find_conflicts(state, {}).conflicts;
    REQUIRE(conflicts.size() == 2);
    const auto id = conflicts[0].conflict_id;
    for (auto& conflict : conflicts) {
        add_names(conflict, state, &names);
        CHECK(conflict.service.name ==
              (conflict.service.kind == ServiceKind::node_port ? ServiceName{"api", "mysql-np", ""} : by_api));
    }
    CHECK(conflicts[0].conflict_id == id);
}

TEST_CASE("a pod of another node is named by what it serves") {
    const auto names = cluster();
    auto state = ipvs_node(Backend::iptables_nft);
    state.index();
    auto finding = judge(connection("10.96.0.10:3306", "10.224.0.224:3306"), state);
    add_names(finding, state, &names);
    CHECK(finding.rewritten_pod == Pod{"api", "mysql-a-0"});
    finding.connection.rewritten.port = 80;
    add_names(finding, state, &names);
    CHECK_FALSE(finding.rewritten_pod);
}
