// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/cni_cache.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "state/cni_result.hpp"
#include "state/values.hpp"
#include "temporary_folder.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

// As libcni writes it for containerd: Go field names in capabilityArgs, arguments in any order.
std::string containerd_entry(const std::string& id, const std::string& pod, const std::string& ips) {
    return R"({"kind":"cniCacheV1","containerId":")" + id +
           R"(","config":"eyJjbmlWZXJzaW9uIjoiMC4zLjEifQ==","ifName":"eth0","networkName":"cbr0",
"netns":"/var/run/netns/cni-8c6e0c3e","cniArgs":[["K8S_POD_UID","11111111-2222"],["IgnoreUnknown","1"],
["K8S_POD_NAMESPACE","ingress"],["K8S_POD_NAME",")" +
           pod + R"("],["K8S_POD_INFRA_CONTAINER_ID",")" + id +
           R"("]],"capabilityArgs":{"portMappings":[{"HostPort":3306,"ContainerPort":3306,"Protocol":"tcp","HostIP":""}],
"io.kubernetes.cri.pod-annotations":{"a":"b"}},
"result":{"cniVersion":"0.3.1","interfaces":[{"name":"veth1"},{"name":"eth0","sandbox":"/var/run/netns/cni-8c6e0c3e"}],
"ips":)" + ips +
           R"(,"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}})";
}

const std::string loopback_ips = R"([{"version":"4","address":"127.0.0.1/8"},{"version":"6","address":"::1/128"}])";
const std::string pod_ips =
    R"([{"version":"4","interface":1,"address":"10.244.1.7/24","gateway":"10.244.1.1"},{"version":"6","address":"fd00:10::7/64"}])";

}  // namespace

TEST_CASE("a cache entry names the pod", "[cni_cache]") {
    const auto sandbox = parse_cni_result(containerd_entry(id_a, "nginx-x7k2p", pod_ips), "cbr0-" + id_a + "-eth0");
    REQUIRE(sandbox);
    CHECK(sandbox->container_id == id_a);
    CHECK(sandbox->network == "cbr0");
    CHECK(sandbox->pod_namespace == "ingress");
    CHECK(sandbox->pod_name == "nginx-x7k2p");
    CHECK(sandbox->pod_uid == "11111111-2222");
    CHECK(sandbox->ips == std::vector{address("10.244.1.7"), address("fd00:10::7")});
}

TEST_CASE("keys are read in any spelling", "[cni_cache]") {
    const auto sandbox = parse_cni_result(
        R"({"Kind":"cniCacheV1","ContainerID":"abc","NetworkName":"n","CniArgs":[["k8s_pod_name","p"]],)"
        R"("Result":{"CNIVersion":"1.0.0","IPs":[{"Address":"10.0.0.2/24"}]}})",
        "n-abc-eth0");
    REQUIRE(sandbox);
    CHECK(sandbox->container_id == "abc");
    CHECK(sandbox->network == "n");
    CHECK(sandbox->pod_name == "p");
    CHECK(sandbox->ips == std::vector{address("10.0.0.2")});
}

TEST_CASE("results older than the cache format take their names from the file", "[cni_cache]") {
    const auto v3 = parse_cni_result(R"({"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.244.1.7/24"}]})",
                                     "k8s-pod-network-" + id_a + "-eth0");
    REQUIRE(v3);
    CHECK(v3->container_id == id_a);
    CHECK(v3->network == "k8s-pod-network");
    CHECK(v3->pod_name.empty());
    CHECK(v3->ips == std::vector{address("10.244.1.7")});
    const auto v2 = parse_cni_result(R"({"cniVersion":"0.2.0","ip4":{"ip":"10.1.2.3/24"},"ip6":{"ip":"fd00::3/64"}})",
                                     "my-net-abc123-eth0");
    REQUIRE(v2);
    CHECK(v2->container_id == "abc123");
    CHECK(v2->network == "my-net");
    CHECK(v2->ips == std::vector{address("10.1.2.3"), address("fd00::3")});
}

TEST_CASE("what is not a result is an error", "[cni_cache]") {
    for (const auto* const text :
         {"", "{", "[]", "null", "42", R"("text")", R"({"a":1})", "\x01\xff", R"({"kind":"cniCacheV1"})"}) {
        INFO(text);
        CHECK_FALSE(parse_cni_result(text, "README"));
    }
    // Known keys with values of another type say nothing.
    const auto sandbox = parse_cni_result(
        R"({"kind":"cniCacheV1","containerId":"abc","networkName":5,"cniArgs":[["K8S_POD_NAME"],[1,2],"x",{}],)"
        R"("result":{"ips":[{"address":7},{"address":"nonsense"},3]}})",
        "n-abc-eth0");
    REQUIRE(sandbox);
    CHECK(sandbox->network == "n");
    CHECK(sandbox->pod_name.empty());
    CHECK(sandbox->ips.empty());
}

TEST_CASE("deep nesting does not bring the program down", "[cni_cache]") {
    std::string deep;
    for (int i = 0; i < 200'000; ++i) {
        deep += "[";
    }
    CHECK_FALSE(parse_cni_result(deep, "n-abc-eth0"));
}

TEST_CASE("annotations of any size do not hide whose sandbox it is", "[cni_cache]") {
    // 256 KiB of them, escaped.
    auto entry = containerd_entry(id_a, "app-1", pod_ips);
    std::string annotation;
    for (int i = 0; i < 256 * 1024; ++i) {
        annotation += "\\u0001";
    }
    entry.insert(entry.find(R"("a":"b")"), R"("long":")" + annotation + R"(",)");
    const TemporaryFolder folder;
    folder.write("cbr0-" + id_a + "-eth0", entry);
    const auto cache = read_cni_cache(folder.path());
    CHECK(cache.complete);
    REQUIRE(cache.sandboxes.size() == 1);
    CHECK(cache.sandboxes[0].pod_name == "app-1");
    CHECK(cache.sandboxes[0].ips == std::vector{address("10.244.1.7"), address("fd00:10::7")});
}

TEST_CASE("of a file that is far too long its beginning counts", "[cni_cache]") {
    auto entry = containerd_entry(id_a, "app-1", pod_ips);
    entry.insert(entry.find(R"("a":"b")"), R"("long":")" + std::string(5UL * 1024 * 1024, 'x') + R"(",)");
    const TemporaryFolder folder;
    folder.write("cbr0-" + id_a + "-eth0", entry);
    const auto cache = read_cni_cache(folder.path());
    REQUIRE(cache.sandboxes.size() == 1);
    CHECK(cache.sandboxes[0].pod_name == "app-1");
    CHECK(cache.sandboxes[0].container_id == id_a);
    CHECK(cache.sandboxes[0].ips.empty());
    CHECK_FALSE(cache.complete);
    CHECK(cache.status.why.ends_with("cbr0-" + id_a + "-eth0: so long that its addresses were not read"));

    // Cut off anywhere it is what it is, without an id in it too.
    const auto name = "cbr0-" + id_a + "-eth0";
    CHECK(parse_cni_result(R"({"kind":"cniCacheV1","config":"aaa)", name, CutOff::yes).value().container_id == id_a);
    CHECK_FALSE(parse_cni_result(R"({"kind":"cniCacheV1","config":"aaa)", name, CutOff::no));
    CHECK_FALSE(parse_cni_result(R"({"something":"else)", name, CutOff::yes));
    CHECK_FALSE(parse_cni_result("[[[[", name, CutOff::yes));
}

TEST_CASE("what only looks like the key that counts does not", "[cni_cache]") {
    const auto sandbox = parse_cni_result(
        R"({"kind":"cniCacheV1","containerId":"abc","a":{"containerId":"x","cniArgs":[["K8S_POD_NAME","x"]]},)"
        R"("cniArgs":[["K8S_POD_NAME","p","more"],["K8S_POD_UID",["u"]],["K8S_POD_NAMESPACE","ns"]],)"
        R"("result/ips":[{"address":"10.0.0.1/24"}],"ips":[{"address":"10.0.0.2/24"}],)"
        R"("result":{"ips":[{"address":"10.0.0.3/24","a":{"address":"10.0.0.4/24"}}],"a":{"ips":[{"address":"10.0.0.5/24"}]}}})",
        "n-abc-eth0");
    REQUIRE(sandbox);
    CHECK(sandbox->container_id == "abc");
    CHECK(sandbox->pod_name.empty());
    CHECK(sandbox->pod_uid.empty());
    CHECK(sandbox->pod_namespace == "ns");
    CHECK(sandbox->ips == std::vector{address("10.0.0.3")});
}

TEST_CASE("names longer than any are none", "[cni_cache]") {
    const std::string longest(255, 'n');
    const auto text = [](const std::string& name) {
        return R"({"kind":"cniCacheV1","networkName":")" + name + R"(","cniArgs":[["K8S_POD_NAME",")" + name +
               R"("]],"result":{}})";
    };
    CHECK(parse_cni_result(text(longest), "n-abc-eth0")->pod_name == longest);
    CHECK(parse_cni_result(text(longest + "n"), "n-abc-eth0")->pod_name.empty());
    CHECK(parse_cni_result(text(longest + "n"), "n-abc-eth0")->network == "n");
}

TEST_CASE("links in a cache do not lead out of it", "[cni_cache]") {
    const TemporaryFolder folder;
    folder.write("secret", containerd_entry(id_a, "secret", pod_ips));
    std::filesystem::create_directory(folder.path() / "results");
    std::filesystem::create_symlink(folder.path() / "secret", folder.path() / ("results/cbr0-" + id_a + "-eth0"));
    std::filesystem::create_symlink("../secret", folder.path() / ("results/cbr0-" + id_b + "-eth0"));
    std::filesystem::create_symlink("/proc/kmsg", folder.path() / "results/kmsg");
    const auto cache = read_cni_cache(folder.path() / "results");
    CHECK(cache.sandboxes.empty());
    CHECK(cache.complete);
}

TEST_CASE("files of one container are put together", "[cni_cache]") {
    const TemporaryFolder folder;
    auto loopback = containerd_entry(id_a, "nginx-x7k2p", loopback_ips);
    loopback.replace(loopback.find("cbr0"), 4, "cni-loopback");
    folder.write("cni-loopback-" + id_a + "-lo", loopback, 1);
    folder.write("cbr0-" + id_a + "-eth0", containerd_entry(id_a, "nginx-x7k2p", pod_ips), 2);
    folder.write("cbr0-" + id_b + "-eth0",
                 containerd_entry(id_b, "mysql-b-0", R"([{"version":"4","address":"10.244.1.8/24"}])"), 3);
    const auto cache = read_cni_cache(folder.path());
    CHECK(cache.status.state == SourceState::used);
    CHECK(cache.complete);
    REQUIRE(cache.sandboxes.size() == 2);
    CHECK(cache.sandboxes[0].container_id == id_a);
    CHECK(cache.sandboxes[0].network == "cbr0");
    CHECK(cache.sandboxes[0].ips == std::vector{address("10.244.1.7"), address("fd00:10::7")});
    CHECK(cache.sandboxes[1].pod_name == "mysql-b-0");
}

TEST_CASE("of two sandboxes with one address the younger has it", "[cni_cache]") {
    const TemporaryFolder folder;
    folder.write("cbr0-" + id_a + "-eth0", containerd_entry(id_a, "young", pod_ips), 9);
    folder.write("cbr0-" + id_b + "-eth0", containerd_entry(id_b, "old", pod_ips), 1);
    NodeState state;
    state.sandboxes = read_cni_cache(folder.path()).sandboxes;
    state.index();
    REQUIRE(state.find_sandbox(address("10.244.1.7")));
    CHECK(state.find_sandbox(address("10.244.1.7"))->pod_name == "young");
}

TEST_CASE("broken files are skipped and said", "[cni_cache]") {
    const TemporaryFolder folder;
    folder.write("cbr0-" + id_a + "-eth0", containerd_entry(id_a, "nginx-x7k2p", pod_ips));
    folder.write("cbr0-" + id_b + "-eth0", containerd_entry(id_b, "cut", pod_ips).substr(0, 200));
    const auto cache = read_cni_cache(folder.path());
    CHECK(cache.sandboxes.size() == 1);
    CHECK_FALSE(cache.complete);
    CHECK(cache.status.state == SourceState::unreadable);
    CHECK(cache.status.why.find("cbr0-" + id_b + "-eth0") != std::string::npos);
    CHECK(cache.status.why.find('\n') == std::string::npos);

    folder.write("huge", std::string(2UL * 1024 * 1024, ' '));
    folder.write("empty", "");
    const auto more = read_cni_cache(folder.path());
    CHECK(more.sandboxes.size() == 1);
    CHECK(more.status.why.starts_with("3 files"));
}

TEST_CASE("what is no file is passed over without waiting", "[cni_cache]") {
    const TemporaryFolder folder;
    folder.write("cbr0-" + id_a + "-eth0", containerd_entry(id_a, "nginx-x7k2p", pod_ips));
    REQUIRE(::mkfifo((folder.path() / "pipe").c_str(), 0600) == 0);
    std::filesystem::create_directory(folder.path() / "folder");
    std::filesystem::create_symlink("/no/such/file", folder.path() / "dangling");
    const auto cache = read_cni_cache(folder.path());
    CHECK(cache.sandboxes.size() == 1);
    CHECK(cache.complete);
}

TEST_CASE("no cache and an empty cache are two things", "[cni_cache]") {
    const auto absent = read_cni_cache("/no/such/folder");
    CHECK(absent.status.state == SourceState::unused);
    CHECK_FALSE(absent.complete);
    const TemporaryFolder folder;
    const auto empty = read_cni_cache(folder.path());
    CHECK(empty.status.state == SourceState::used);
    CHECK(empty.complete);
    const auto not_a_folder = read_cni_cache("/etc/passwd");
    CHECK(not_a_folder.status.state == SourceState::unreadable);
    CHECK_FALSE(not_a_folder.complete);
}

TEST_CASE("a cache that would read differently has another version", "[cni_cache]") {
    const TemporaryFolder folder;
    const auto path = folder.path() / ("cbr0-" + id_a + "-eth0");
    std::vector<std::uint64_t> versions{cni_cache_version(whole_node(), "/no/such/folder")};
    const auto changed = [&] {
        const auto now = cni_cache_version(whole_node(), folder.path());
        CHECK(cni_cache_version(whole_node(), folder.path()) == now);
        const bool is_new = std::ranges::find(versions, now) == versions.end();
        versions.push_back(now);
        return is_new;
    };
    CHECK(changed());
    folder.write(path.filename().string(), containerd_entry(id_a, "nginx-x7k2p", pod_ips));
    CHECK(changed());
    folder.write(path.filename().string(), containerd_entry(id_a, "nginx-x7k2p", pod_ips) + " ");
    CHECK(changed());
    std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
    CHECK(changed());
    std::filesystem::rename(path, folder.path() / ("cbr1-" + id_a + "-eth0"));
    CHECK(changed());
}
