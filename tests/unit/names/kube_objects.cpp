// SPDX-License-Identifier: GPL-2.0-or-later
#include "names/kube_objects.hpp"

#include <fmt/format.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <cstring>

#include "judge/node.hpp"

using namespace hptrace;
using namespace hptrace::test;
using nlohmann::json;

namespace {

Service service_at(const char* address, std::uint16_t port, Protocol protocol = Protocol::tcp) {
    Service service;
    service.ip = ip(address);
    service.port = port;
    service.protocol = protocol;
    return service;
}

Service node_port_at(std::uint16_t port, Protocol protocol = Protocol::tcp) {
    auto service = service_at("192.168.0.2", port, protocol);
    service.kind = ServiceKind::node_port;
    return service;
}

ServiceNames services(const std::vector<std::string>& items, std::vector<bool> understood) {
    ServiceNames names;
    std::vector<bool> taken;
    for (const auto& item : items) {
        taken.push_back(take_service(json::parse(item), names));
    }
    CHECK(taken == understood);
    names.finish();
    return names;
}

const char* const balancer = R"({"metadata": {"namespace": "shop", "name": "web"}, "spec": {
    "clusterIP": "10.96.0.11", "clusterIPs": ["10.96.0.11", "fd00:10:96::b"], "externalIPs": ["198.51.100.7"],
    "healthCheckNodePort": 32045,
    "ports": [{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080},
              {"name": "dns", "protocol": "UDP", "port": 53}]},
    "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.15"}, {"hostname": "lb.example"}]}}})";

std::string pod(const std::string& name, const std::string& spec, const std::string& status,
                const std::string& metadata = "") {
    return R"({"metadata": {"namespace": "default", "name": ")" + name + "\"" + metadata + R"(}, "spec": {)" + spec +
           R"(}, "status": {)" + status + "}}";
}

}  // namespace

TEST_CASE("a Service is found by each of its addresses and by its NodePort") {
    const auto names = services({balancer}, {true});
    const ServiceName http{"shop", "web", "http"};
    for (const auto* const address : {"10.96.0.11", "fd00:10:96::b", "198.51.100.7", "198.51.100.15"}) {
        CAPTURE(address);
        REQUIRE(names.find(service_at(address, 80)) != nullptr);
        CHECK(*names.find(service_at(address, 80)) == http);
        CHECK(names.find(service_at(address, 53, Protocol::udp))->port == "dns");
        CHECK(names.find(service_at(address, 53)) == nullptr);
        CHECK(names.find(service_at(address, 30080)) == nullptr);
    }
    CHECK(*names.find(node_port_at(30080)) == http);
    CHECK(names.find(node_port_at(30080, Protocol::udp)) == nullptr);
    CHECK(names.find(node_port_at(80)) == nullptr);
    CHECK(*names.find(node_port_at(32045)) == ServiceName{"shop", "web", ""});
    auto any = node_port_at(30080);
    any.ip.reset();
    CHECK(*names.find(any) == http);
}

TEST_CASE("a Service without addresses has no name to give, and is no error") {
    const auto names = services(
        {R"({"metadata": {"namespace": "a", "name": "headless"}, "spec": {"clusterIP": "None", "clusterIPs": ["None"],
             "ports": [{"port": 5672}]}})",
         R"({"metadata": {"namespace": "a", "name": "elsewhere"}, "spec": {"type": "ExternalName"}})",
         R"({"metadata": {"namespace": "a", "name": "waiting"}, "spec": {"clusterIP": "", "ports": [{"port": 1}]}})"},
        {true, true, true});
    CHECK(names.size() == 0);
}

TEST_CASE("what two Services claim has no name") {
    const auto item = [](const std::string& name) {
        return R"({"metadata": {"namespace": "a", "name": ")" + name +
               R"("}, "spec": {"externalIPs": ["198.51.100.7"], "ports": [{"port": 80}]}})";
    };
    CHECK(services({item("one"), item("two")}, {true, true}).size() == 0);
    CHECK(services({item("one"), item("one")}, {true, true}).size() == 1);
}

TEST_CASE("a malformed Service is skipped, its sound ports are not") {
    const auto names = services(
        {"5", "{}", R"({"metadata": {"namespace": "a"}, "spec": {}})",
         R"({"metadata": {"namespace": 1, "name": "x"}, "spec": {}})",
         R"({"metadata": {"namespace": "a", "name": "x"}})",
         R"({"metadata": {"namespace": "a", "name": "x"}, "spec": []})",
         R"({"metadata": {"namespace": "a", "name": "x"}, "spec": {"ports": {}}})",
         R"({"metadata": {"namespace": "a", "name": "x"}, "status": 5, "spec": {"clusterIP": "10.96.0.9", "clusterIPs": [5, "x"],
             "externalIPs": "none", "ports": [5, {"port": 70000}, {"port": -1}, {"port": 80, "protocol": "DCCP"},
             {"port": "http"}, {"port": 443, "name": 7, "nodePort": "x"}]}})"},
        std::vector<bool>(8, false));
    CHECK(names.size() == 1);
    CHECK(*names.find(service_at("10.96.0.9", 443)) == ServiceName{"a", "x", ""});
}

TEST_CASE("endpoints that are pods are found by address and port, on every node") {
    const std::string slice = R"({"metadata": {"namespace": "shop", "name": "web-x7k2p"}, "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}, {"name": "all", "port": null}],
        "endpoints": [{"addresses": ["10.224.1.2"], "nodeName": "node-1",
                       "targetRef": {"kind": "Pod", "namespace": "shop", "name": "web-1"}},
                      {"addresses": ["10.224.0.2"], "nodeName": "node-2",
                       "targetRef": {"kind": "Pod", "namespace": "shop", "name": "web-2"}},
                      {"addresses": ["203.0.113.1"]}, 5,
                      {"addresses": ["203.0.113.2"], "targetRef": {"kind": "Node", "name": "node-1"}}]})";
    NameTable<Pod> names;
    std::vector<std::string> nodes;
    const auto on_node = [&nodes](std::string_view node) { nodes.emplace_back(node); };
    CHECK(take_endpoint_slice(json::parse(slice), names, on_node));
    CHECK(take_endpoint_slice(json::parse(slice), names, on_node));  // of another Service with the same pods
    CHECK(take_endpoint_slice(json::parse(R"({"metadata": {"namespace": "a", "name": "b"}, "endpoints": null})"), names,
                              on_node));
    CHECK_FALSE(take_endpoint_slice(json::parse(R"({"metadata": {"namespace": "a", "name": "b"}, "endpoints": 5})"),
                                    names, on_node));
    CHECK_FALSE(take_endpoint_slice(json::parse("[]"), names, on_node));
    names.finish();
    CHECK(names.size() == 2);
    REQUIRE(names.find(end("10.224.1.2:8080"), Protocol::tcp) != nullptr);
    CHECK(*names.find(end("10.224.1.2:8080"), Protocol::tcp) == Pod{"shop", "web-1"});
    CHECK(names.find(end("10.224.1.2:8080"), Protocol::udp) == nullptr);
    CHECK(names.find(end("10.224.1.2:80"), Protocol::tcp) == nullptr);
    CHECK(nodes == std::vector<std::string>{"node-1", "node-2", "node-1", "node-2"});
}

TEST_CASE("pods of this node are found by their own addresses") {
    NodePods pods;
    const auto take = [&pods](const std::string& text) { return take_pod(json::parse(text), pods); };
    CHECK(take(pod("app", "", R"("phase": "Running", "podIP": "10.224.0.2",
                                 "podIPs": [{"ip": "10.224.0.2"}, {"ip": "fd00:10:224::2"}])")));
    CHECK(take(pod("proxy", R"("hostNetwork": true)", R"("phase": "Running", "podIP": "192.168.0.2")")));
    CHECK(take(pod("job", "", R"("phase": "Succeeded", "podIP": "10.224.0.3")")));
    CHECK(take(pod("crashed", "", R"("phase": "Failed", "podIP": "10.224.0.3")")));
    CHECK(take(pod("pending", "", R"("phase": "Pending")")));
    CHECK_FALSE(take(R"({"metadata": {"namespace": "a", "name": "b"}})"));
    CHECK_FALSE(take("null"));
    pods.finish();
    CHECK(pods.size() == 1);
    REQUIRE(pods.find(ip("10.224.0.2")) != nullptr);
    CHECK(*pods.find(ip("fd00:10:224::2")) == Pod{"default", "app"});
    CHECK(pods.find(ip("192.168.0.2")) == nullptr);
    CHECK(pods.find(ip("10.224.0.3")) == nullptr);
}

TEST_CASE("an address belongs to the newest pod that is not ending") {
    NodePods pods;
    const auto add = [&pods](const std::string& name, const std::string& created, const std::string& more = "") {
        CHECK(take_pod(json::parse(pod(name, "", R"("podIP": "10.224.0.2")",
                                       R"(, "creationTimestamp": ")" + created + "\"" + more)),
                       pods));
    };
    const auto [first, second] = GENERATE(table<std::string, std::string>({{"01", "02"}, {"02", "01"}}));
    add("a", "2026-01-" + first + "T00:00:00Z");
    add("ending", "2026-01-09T00:00:00Z", R"(, "deletionTimestamp": "2026-01-10T00:00:00Z")");
    add("b", "2026-01-" + second + "T00:00:00Z");
    pods.finish();
    CHECK(pods.find(ip("10.224.0.2"))->name == (first > second ? "a" : "b"));
}

TEST_CASE("a HostPort rule is a pod's only if it leads to it and the pod wants that hostPort") {
    NodePods pods;
    const auto text = pod("mysql-b-0",
                          R"("containers": [{"ports": [{"containerPort": 1, "hostPort": 0}, {"containerPort": 2}]},
                                            {"ports": [{"containerPort": 3306, "hostPort": 3306, "protocol": "TCP"}]}],
                             "initContainers": [{"ports": [{"containerPort": 53, "hostPort": 5353, "protocol": "UDP"}]}])",
                          R"("podIP": "10.224.0.222")");
    CHECK(take_pod(json::parse(text), pods));
    pods.finish();
    auto rule = hostport(Backend::iptables_nft);
    REQUIRE(pods.find_owner(rule) != nullptr);
    CHECK(*pods.find_owner(rule) == Pod{"default", "mysql-b-0"});
    rule.protocol = Protocol::udp;
    CHECK(pods.find_owner(rule) == nullptr);
    rule.port = {5353, 5353};
    CHECK(pods.find_owner(rule) != nullptr);
    rule.target.ip = ip("10.224.0.223");
    CHECK(pods.find_owner(rule) == nullptr);
}

TEST_CASE("a page of a list is read an item at a time") {
    std::vector<json> items;
    const auto take = [&items](const json& item) {
        items.push_back(item);
        return item.is_object();
    };
    const auto page = parse_kube_page(
        R"({"kind": "ServiceList", "metadata": {"continue": "abc", "resourceVersion": "5"}, "items": [
            {"metadata": {"name": "a", "managedFields": [{"f": {}}], "annotations": {"x": "y"}}, "spec": {"ports": [{"port": 1}]}},
            7, null, {"metadata": {"name": "b"}}]})",
        take);
    REQUIRE(page);
    CHECK(page->next == "abc");
    CHECK(page->items == 4);
    CHECK(page->skipped == 2);
    REQUIRE(items.size() == 4);
    CHECK(items[0] == json::parse(R"({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 1}]}})"));
    CHECK(items[3] == json::parse(R"({"metadata": {"name": "b"}})"));

    const auto last = parse_kube_page(R"({"kind": "PodList", "metadata": {}, "items": null})", take);
    REQUIRE(last);
    CHECK(last->next.empty());
    CHECK(last->items == 0);
}

TEST_CASE("what is not a list, or not all of it, is an error") {
    const auto* const text = GENERATE("", "[]", "5", R"({"kind": "Status", "items": []})", R"({"kind": "PodList"})",
                                      R"({"kind": "PodList", "items": [{"metadata": {"name": "a"}}, {"meta)",
                                      R"({"kind": "PodList", "items": [{}]}})", R"({"items": []})", "<html>");
    CAPTURE(text);
    CHECK_FALSE(parse_kube_page(text, [](const json&) { return true; }));
}

TEST_CASE("what is taken from an object does not depend on how it came") {
    // Keys that a page does not keep would be missing here.
    const std::string slice = R"({"metadata": {"namespace": "shop", "name": "web-x7k2p"},
        "ports": [{"protocol": "UDP", "port": 8080}], "endpoints": [{"addresses": ["10.224.1.2"], "nodeName": "node-1",
        "targetRef": {"kind": "Pod", "namespace": "shop", "name": "web-1"}}]})";
    const std::string app =
        pod("app", R"("hostNetwork": false, "containers": [{"ports": [{"hostPort": 1, "protocol": "UDP"}]}],
                      "initContainers": [{"ports": [{"hostPort": 2}]}])",
            R"("phase": "Running", "podIP": "10.224.0.2", "podIPs": [{"ip": "fd00:10:224::2"}])",
            R"(, "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z")");
    const std::string proxy = pod("proxy", R"("hostNetwork": true)", R"("podIP": "10.224.0.9")");
    for (const auto& text : {std::string(balancer), slice, app, proxy}) {
        CAPTURE(text);
        std::optional<json> taken;
        REQUIRE(parse_kube_page(R"({"kind": "List", "items": [)" + text + "]}", [&](const json& item) {
            taken = item;
            return true;
        }));
        REQUIRE(taken);
        const auto facts = [](const json& item) {
            ServiceNames services;
            NameTable<Pod> endpoints;
            NodePods pods;
            std::vector<std::string> nodes;
            const std::vector<bool> understood{
                take_service(item, services),
                take_endpoint_slice(item, endpoints, [&](std::string_view node) { nodes.emplace_back(node); }),
                take_pod(item, pods)};
            services.finish();
            endpoints.finish();
            pods.finish();
            auto rule = hostport(Backend::iptables_nft);
            rule.target.ip = ip("10.224.0.2");
            std::vector<bool> owned;
            for (const auto port : {std::uint16_t{1}, std::uint16_t{2}}) {
                for (const auto protocol : {Protocol::tcp, Protocol::udp}) {
                    rule.port = {port, port};
                    rule.protocol = protocol;
                    owned.push_back(pods.find_owner(rule) != nullptr);
                }
            }
            return std::tuple(understood, services.size(), endpoints.size(), pods.size(), nodes, owned,
                              services.find(service_at("198.51.100.15", 80)) != nullptr,
                              services.find(node_port_at(32045)) != nullptr,
                              pods.find(ip("fd00:10:224::2")) != nullptr);
        };
        CHECK(facts(*taken) == facts(json::parse(text)));
    }
}

namespace {

struct Taken {
    Result<KubePage> page;
    std::size_t items = 0;
};

Taken taken_from(const std::string& text, const KubePageLimits& limits = {}) {
    Taken taken;
    const auto count = [&taken](const json&) {
        ++taken.items;
        return true;
    };
    taken.page = parse_kube_page(text, count, {}, limits);
    return taken;
}

std::string repeated(const std::string& part, std::size_t bytes) {
    std::string text;
    while (text.size() < bytes) {
        text += part;
    }
    return text;
}

}  // namespace

TEST_CASE("an answer that is nested without end is given up, wherever it is") {
    const auto* const begin = GENERATE("", R"({"kind": "List", "items": )", R"({"kind": "List", "items": [{"ports": )",
                                       R"({"kind": "List", "items": [{"managedFields": )", R"({"kind": )");
    const auto* const nested = GENERATE("[", R"({"a": )", R"([{"spec": )");
    const auto taken = taken_from(begin + repeated(nested, 1U << 20U));
    REQUIRE_FALSE(taken.page);
    CHECK(taken.page.error().what == "the answer is nested more than 64 levels deep");
}

TEST_CASE("an item that takes too much memory is skipped, the others are not") {
    const auto* const filler = GENERATE("{},", "0,", R"("",)", "[],", R"({"port": 1},)", R"({"name": "0123456789"},)");
    const auto* const key = GENERATE("ports", "managedFields");
    const bool kept = std::string(key) == "ports";
    KubePageLimits limits;
    limits.item = 1U << 16U;
    const auto taken = taken_from(R"({"kind": "List", "items": [{"metadata": {}}, {")" + std::string(key) + "\": [" +
                                      repeated(filler, limits.item) + R"(0]}, {"metadata": {}}]})",
                                  limits);
    REQUIRE(taken.page);
    CHECK(taken.page->items == 3);
    CHECK(taken.items == (kept ? 2 : 3));
    CHECK(taken.page->skipped == (kept ? 1 : 0));
}

TEST_CASE("a text, or what stands for one, that is too long for the API is an error") {
    const std::size_t enough = (2U << 20U) + 100;
    const auto long_one =
        GENERATE_COPY("\"" + std::string(enough, 'x') + "\"", "\"" + repeated("\\\"", enough) + "\"",
                      "\"" + repeated("\\\\", enough) + "\"", std::string(enough, '1'), std::string(enough, ' ') + "1");
    const auto taken = taken_from(R"({"kind": "List", "items": [{"a": )" + long_one + "}]}");
    REQUIRE_FALSE(taken.page);
    CHECK(taken.page.error().what == "no text begins or ends within 2097152 bytes of the answer");
}

TEST_CASE("a number that no type holds is an error, not an exception") {
    CHECK_FALSE(taken_from(R"({"kind": "List", "items": [{"port": 1e999}]})").page);
    CHECK(taken_from(R"({"kind": "List", "items": [{"port": 99999999999999999999}]})").page);
}

TEST_CASE("a list whose next page cannot be asked for is no list") {
    CHECK_FALSE(
        taken_from(R"({"kind": "List", "metadata": {"continue": ")" + std::string(5'000, 'x') + R"("}, "items": []})")
            .page);
    CHECK_FALSE(taken_from(R"({"kind": "List", "metadata": {"continue": 5}, "items": []})").page);
    // What comes before the items must not make them disappear.
    CHECK_FALSE(
        taken_from(R"({"kind": "List", "metadata": [)" + repeated("0,", 1'200'000) + R"(0], "items": [{}]})").page);
}

TEST_CASE("an answer is left when it is to stop") {
    std::stop_source source;
    std::size_t items = 0;
    const auto text = R"({"kind": "List", "items": [)" + repeated(R"({"name": "a"},)", 1U << 20U) + "0]}";
    const auto page = parse_kube_page(
        text,
        [&](const json&) {
            source.request_stop();
            ++items;
            return true;
        },
        source.get_token());
    REQUIRE_FALSE(page);
    CHECK(page.error().what == "stopped");
    CHECK(items < 10'000);
}

TEST_CASE("one object gives a limited number of names") {
    std::string addresses;
    std::string ports;
    for (int i = 0; i < 2'000; ++i) {
        const auto comma = i == 0 ? "" : ",";
        addresses += fmt::format("{}\"198.18.{}.{}\"", comma, i / 200, i % 200);
        ports += fmt::format("{}{{\"port\": {}}}", comma, i + 1);
    }
    ServiceNames services;
    CHECK(take_service(json::parse(R"({"metadata": {"namespace": "a", "name": "b"}, "spec": {"externalIPs": [)" +
                                   addresses + R"(], "ports": [)" + ports + "]}}"),
                       services));
    services.finish();
    CHECK(services.size() == most_names_per_object);
    CHECK(services.left_out() >= 3'000'000);

    NameTable<Pod> endpoints;
    CHECK(take_endpoint_slice(json::parse(R"({"metadata": {"namespace": "a", "name": "b"}, "ports": [)" + ports +
                                          R"(], "endpoints": [{"addresses": [)" + addresses +
                                          R"(], "targetRef": {"kind": "Pod", "namespace": "a", "name": "p"}}]})"),
                              endpoints, [](std::string_view) {}));
    endpoints.finish();
    CHECK(endpoints.size() == most_names_per_object);
    CHECK(endpoints.left_out() >= 3'000'000);
}

TEST_CASE("all objects together give a limited number of names") {
    NameTable<Pod> endpoints;
    for (std::uint32_t i = 0; i < most_names + 5; ++i) {
        Address address;
        std::memcpy(address.bytes.data(), &i, sizeof(i));
        endpoints.add({address, 80}, Protocol::tcp, {"a", "b"});
    }
    CHECK(endpoints.size() == most_names);
    CHECK(endpoints.left_out() == 5);

    NodePods pods;
    for (std::size_t i = 0; i < most_node_pods + 5; ++i) {
        pods.add({});
    }
    CHECK(pods.size() == most_node_pods);
    CHECK(pods.left_out() == 5);
}

TEST_CASE("a name that Kubernetes does not allow is none") {
    ServiceNames services;
    CHECK_FALSE(take_service(
        json::parse(R"({"metadata": {"namespace": "a", "name": ")" + std::string(254, 'x') + R"("}, "spec": {}})"),
        services));
}
