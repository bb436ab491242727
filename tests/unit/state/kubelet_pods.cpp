// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/kubelet_pods.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "kubelet_folder.hpp"
#include "state/values.hpp"

using namespace hptrace;
using namespace hptrace::test;

TEST_CASE("a pod's hosts file has its addresses", "[kubelet_pods]") {
    CHECK(parse_etc_hosts(etc_hosts("10.244.1.7\tmysql-b-0\n")) == std::vector{address("10.244.1.7")});
    CHECK(parse_etc_hosts(etc_hosts("10.244.1.7\tmysql-b-0.db.default.svc.cluster.local\tmysql-b-0\n"
                                    "fd00:10::7\tmysql-b-0.db.default.svc.cluster.local\tmysql-b-0\n")) ==
          std::vector{address("10.244.1.7"), address("fd00:10::7")});
    CHECK(parse_etc_hosts(etc_hosts("fd00:10::7\tmysql-b-0\n")) == std::vector{address("fd00:10::7")});
}

TEST_CASE("addresses of others in a pod's hosts file are not its own", "[kubelet_pods]") {
    const auto own = std::vector{address("10.244.1.7")};
    CHECK(parse_etc_hosts(etc_hosts("10.244.1.7\tapp-1\n\n# Entries added by HostAliases.\n10.1.2.3\tfoo.remote\n")) ==
          own);
    CHECK(parse_etc_hosts(etc_hosts("10.244.1.7\tapp-1\nfd00::1\tsomebody\n")) == own);
    CHECK(parse_etc_hosts(etc_hosts("10.244.1.7\tapp-1\n10.244.1.8\tapp-1\n")) == own);
    CHECK(parse_etc_hosts(etc_hosts("10.244.1.7\tapp-1\nnonsense\n10.244.1.9\tapp-1")) == own);
}

TEST_CASE("a hosts file that is the node's or nobody's has none", "[kubelet_pods]") {
    CHECK(parse_etc_hosts("# Kubernetes-managed hosts file (host network).\n127.0.0.1\tlocalhost\n"
                          "192.168.0.2\tnode-2\n")
              .empty());
    CHECK(parse_etc_hosts("127.0.0.1\tlocalhost\n192.168.0.2\tnode-2\n").empty());
    CHECK(parse_etc_hosts("").empty());
    CHECK(parse_etc_hosts("# Kubernetes-managed hosts file.").empty());
    CHECK(parse_etc_hosts(etc_hosts("")).empty());
}

TEST_CASE("pods are named by their log folders", "[kubelet_pods]") {
    const KubeletFolder kubelet;
    kubelet.add_pod("uid-b", "10.244.1.8", 2);
    kubelet.add_log("db_mysql-b-0.x_uid-b");
    kubelet.add_pod("uid-a", "10.244.1.7", 1);
    kubelet.add_log("default_app-1_uid-a");
    kubelet.add_pod("unnamed", "10.244.1.9");
    kubelet.add_log("unnamed");  // as before Kubernetes 1.14
    kubelet.add_log("default__unnamed");
    kubelet.add_log("a_b_c_unnamed");
    kubelet.add_pod("two-names", "10.244.1.10");
    kubelet.add_log("default_one_two-names");
    kubelet.add_log("default_two_two-names");
    kubelet.add_log("default_starting_no-file-yet");
    std::filesystem::create_directory(kubelet.pods() / "no-file-yet");
    const auto found = kubelet.read();
    CHECK(found.status.state == SourceState::used);
    REQUIRE(found.pods.size() == 2);
    CHECK(found.pods[0].ns == "default");
    CHECK(found.pods[0].name == "app-1");
    CHECK(found.pods[0].uid == "uid-a");
    CHECK(found.pods[0].ips == std::vector{address("10.244.1.7")});
    CHECK(found.pods[1].ns == "db");
    CHECK(found.pods[1].name == "mysql-b-0.x");
    CHECK(found.pods[0].written_ns < found.pods[1].written_ns);
}

TEST_CASE("what a container appends to its hosts file hides nothing", "[kubelet_pods]") {
    const KubeletFolder kubelet;
    kubelet.add_pod("uid-a", "10.244.1.7");
    kubelet.add_log("default_app-1_uid-a");
    kubelet.add_pod("uid-b", "10.244.1.8");
    kubelet.add_log("default_app-2_uid-b");
    kubelet.folder().write("pods/uid-b/etc-hosts",
                           etc_hosts("10.244.1.8\tuid-b\n") + std::string(2UL * 1024 * 1024, ' '));
    const auto found = kubelet.read();
    CHECK(found.pods.size() == 2);
    CHECK(found.status.state == SourceState::used);
}

TEST_CASE("a hosts file that cannot be read is skipped and told, others are not lost", "[kubelet_pods]") {
    const KubeletFolder kubelet;
    kubelet.add_pod("uid-a", "10.244.1.7");
    kubelet.add_log("default_app-1_uid-a");
    kubelet.add_log("default_app-2_uid-b");
    std::filesystem::create_directory(kubelet.pods() / "uid-b");
    std::filesystem::create_symlink("etc-hosts", kubelet.pods() / "uid-b/etc-hosts");  // leads to itself
    const auto found = kubelet.read();
    CHECK(found.pods.size() == 1);
    CHECK(found.status.state == SourceState::unreadable);
    CHECK(found.status.why.starts_with((kubelet.pods() / "uid-b/etc-hosts: cannot be read").string()));
}

TEST_CASE("no kubelet is no failure, something else in its place is", "[kubelet_pods]") {
    const KubeletFolder kubelet;
    CHECK(read_kubelet_pods(whole_node(), "/no/such/folder", kubelet.logs()).status.state == SourceState::unused);
    CHECK(read_kubelet_pods(whole_node(), kubelet.pods(), "/no/such/folder").status.state == SourceState::used);
    CHECK(read_kubelet_pods(whole_node(), "/etc/passwd", kubelet.logs()).status.state == SourceState::unreadable);
    CHECK(read_kubelet_pods(whole_node(), kubelet.pods(), "/etc/passwd").status.why.starts_with("/etc/passwd: "));
}

TEST_CASE("pods that would read differently have another version", "[kubelet_pods]") {
    const KubeletFolder kubelet;
    std::vector<std::uint64_t> versions;
    const auto changed = [&] {
        const auto now = kubelet_pods_version(whole_node(), kubelet.pods(), kubelet.logs());
        CHECK(kubelet_pods_version(whole_node(), kubelet.pods(), kubelet.logs()) == now);
        const bool is_new = std::ranges::find(versions, now) == versions.end();
        versions.push_back(now);
        return is_new;
    };
    CHECK(changed());
    std::filesystem::create_directory(kubelet.pods() / "uid-a");
    CHECK(changed());
    kubelet.add_pod("uid-a", "10.244.1.7", 1);
    CHECK(changed());
    kubelet.add_pod("uid-a", "10.244.1.8", 2);
    CHECK(changed());
    kubelet.add_log("default_app-1_uid-a");
    CHECK(changed());
    std::filesystem::remove_all(kubelet.pods() / "uid-a");
    CHECK(changed());
}
