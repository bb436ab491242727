// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/sandboxes.hpp"

#include <catch2/catch_test_macros.hpp>
#include <string>
#include <utility>
#include <vector>

#include "state/values.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

Sandbox cached(const std::string& id, const std::string& pod, const char* ip, std::int64_t since) {
    return {.container_id = id,
            .network = "cbr0",
            .pod_namespace = pod.empty() ? "" : "default",
            .pod_name = pod,
            .pod_uid = {},
            .ips = {address(ip)},
            .since_ns = since};
}

Reservation reserved(const char* ip, const std::string& id, std::int64_t since, const std::string& network = "cbr0") {
    return {.ip = address(ip), .network = network, .container_id = id, .since_ns = since};
}

KubeletPod pod(const std::string& name, const char* ip, std::int64_t written) {
    return {.ns = "default", .name = name, .uid = "uid-" + name, .ips = {address(ip)}, .written_ns = written};
}

// What is known of one node.
class Node {
public:
    Node(std::vector<Sandbox> cache, std::vector<Reservation> reservations, std::vector<KubeletPod> pods) {
        state_.sandboxes = put_together(std::move(cache), reservations, pods);
        state_.index();
    }

    // The pod and the container at an address, "pod container"; each "-" if it is not known.
    [[nodiscard]] std::string at(const char* ip) const { return text(state_.find_sandbox(address(ip))); }
    [[nodiscard]] std::string of(std::string_view id) const { return text(state_.find_sandbox(id)); }

private:
    static std::string text(const Sandbox* sandbox) {
        if (sandbox == nullptr) {
            return "- -";
        }
        const auto or_dash = [](const std::string& part) { return part.empty() ? "-" : part; };
        return or_dash(sandbox->pod_name) + " " + or_dash(sandbox->container_id);
    }

    NodeState state_;
};

}  // namespace

TEST_CASE("without a cache a pod is named by kubelet, its container by host-local", "[sandboxes]") {
    const Node node({}, {reserved("10.244.1.7", "aaa", 10)}, {pod("app-1", "10.244.1.7", 11)});
    CHECK(node.at("10.244.1.7") == "app-1 aaa");
    CHECK(node.of("aaa") == "app-1 aaa");
}

TEST_CASE("one container's addresses are one sandbox", "[sandboxes]") {
    auto dual = pod("app-1", "10.244.1.7", 11);
    dual.ips.push_back(address("fd00:10::7"));
    const auto sandboxes = put_together(
        {}, std::vector{reserved("10.244.1.7", "aaa", 10), reserved("fd00:10::7", "aaa", 10)}, std::vector{dual});
    REQUIRE(sandboxes.size() == 1);
    CHECK(sandboxes[0].ips.size() == 2);
    CHECK(sandboxes[0].pod_namespace == "default");
    CHECK(sandboxes[0].pod_uid == "uid-app-1");
    CHECK(sandboxes[0].network == "cbr0");
}

TEST_CASE("the cache comes first", "[sandboxes]") {
    const Node node({cached("aaa", "app-1", "10.244.1.7", 10)}, {reserved("10.244.1.7", "aaa", 9)},
                    {pod("liar", "10.244.1.7", 99)});
    CHECK(node.at("10.244.1.7") == "app-1 aaa");
}

TEST_CASE("a container whose cache entry has no name gets the pod's", "[sandboxes]") {
    CHECK(Node({cached("aaa", "", "10.244.1.7", 10)}, {}, {pod("app-1", "10.244.1.7", 11)}).at("10.244.1.7") ==
          "app-1 aaa");
    CHECK(Node({cached("aaa", "", "10.244.1.7", 10)}, {}, {pod("ended", "10.244.1.7", 9)}).at("10.244.1.7") == "- aaa");
}

TEST_CASE("a pod that had the address before does not name who has it now", "[sandboxes]") {
    CHECK(Node({}, {reserved("10.244.1.7", "bbb", 20)}, {pod("ended", "10.244.1.7", 11)}).at("10.244.1.7") == "- bbb");
    CHECK(
        Node({}, {reserved("10.244.1.7", "bbb", 20)}, {pod("ended", "10.244.1.7", 11), pod("app-2", "10.244.1.7", 21)})
            .at("10.244.1.7") == "app-2 bbb");
}

TEST_CASE("two pods that claim an address since it was given out are none", "[sandboxes]") {
    CHECK(Node({}, {reserved("10.244.1.7", "aaa", 10)}, {pod("app-1", "10.244.1.7", 11), pod("liar", "10.244.1.7", 12)})
              .at("10.244.1.7") == "- aaa");
    auto second = pod("other", "fd00:10::7", 11);
    CHECK(Node({}, {reserved("10.244.1.7", "aaa", 10), reserved("fd00:10::7", "aaa", 10)},
               {pod("app-1", "10.244.1.7", 11), second})
              .of("aaa") == "- aaa");
}

TEST_CASE("without a container a pod that nobody contradicts counts", "[sandboxes]") {
    CHECK(Node({}, {}, {pod("app-1", "10.244.1.7", 11)}).at("10.244.1.7") == "app-1 -");
    // Which of them wrote to its file last says nothing: each can.
    CHECK(Node({}, {}, {pod("thief", "10.244.1.7", 12), pod("app-1", "10.244.1.7", 11)}).at("10.244.1.7") == "- -");
    CHECK(Node({}, {}, {pod("one", "10.244.1.7", 11), pod("two", "10.244.1.7", 11)}).at("10.244.1.7") == "- -");
}

TEST_CASE("a pod that the cache knows does not get the address of another by saying so", "[sandboxes]") {
    auto thief = cached("bbb", "thief", "10.244.1.8", 10);
    CHECK(Node({thief}, {}, {pod("thief", "10.244.1.7", 99)}).at("10.244.1.7") == "- -");
    CHECK(Node({thief, cached("aaa", "", "10.244.1.7", 10)}, {}, {pod("thief", "10.244.1.7", 99)}).at("10.244.1.7") ==
          "- aaa");
    // It neither hides who says the truth.
    CHECK(Node({thief, cached("aaa", "", "10.244.1.7", 10)}, {},
               {pod("thief", "10.244.1.7", 99), pod("app-1", "10.244.1.7", 11)})
              .at("10.244.1.7") == "app-1 aaa");
    // By its uid, where that is known: a pod of the same name may have been there before.
    thief.pod_uid = "uid-thief";
    CHECK(Node({thief}, {}, {pod("thief", "10.244.1.7", 99)}).at("10.244.1.7") == "- -");
    thief.pod_uid = "uid-of-before";
    CHECK(Node({thief}, {}, {pod("thief", "10.244.1.7", 99)}).at("10.244.1.7") == "thief -");
}

TEST_CASE("what a pod says of itself is marked", "[sandboxes]") {
    const auto marks = [](const std::vector<Sandbox>& sandboxes) {
        REQUIRE(sandboxes.size() == 1);
        return sandboxes[0].named_by_itself;
    };
    const std::vector told{pod("app-1", "10.244.1.7", 11)};
    CHECK(marks(put_together({}, {}, told)));
    CHECK(marks(put_together({}, std::vector{reserved("10.244.1.7", "aaa", 10)}, told)));
    CHECK(marks(put_together({cached("aaa", "", "10.244.1.7", 10)}, {}, told)));
    CHECK_FALSE(marks(put_together({cached("aaa", "app-1", "10.244.1.7", 10)}, {}, told)));
    CHECK_FALSE(marks(put_together({}, std::vector{reserved("10.244.1.7", "aaa", 10)}, {})));
}

TEST_CASE("an address that host-local would know of is nobody's if it does not", "[sandboxes]") {
    const std::vector reservations{reserved("10.244.1.8", "bbb", 10)};
    CHECK(Node({}, reservations, {pod("ended", "10.244.1.7", 11)}).at("10.244.1.7") == "- -");
    // Another plugin's.
    CHECK(Node({}, reservations, {pod("app-1", "10.0.9.7", 11)}).at("10.0.9.7") == "app-1 -");
}

TEST_CASE("an address given to another container later is not the cached one's", "[sandboxes]") {
    const std::vector cache{cached("aaa", "app-1", "10.244.1.7", 10)};
    const Node later(cache, {reserved("10.244.1.7", "bbb", 20)}, {pod("app-2", "10.244.1.7", 21)});
    CHECK(later.at("10.244.1.7") == "app-2 bbb");
    CHECK(later.of("aaa") == "app-1 aaa");
    // Left over from before, or of a network of its own that has the same addresses.
    CHECK(Node(cache, {reserved("10.244.1.7", "bbb", 9)}, {}).at("10.244.1.7") == "app-1 aaa");
    CHECK(Node(cache, {reserved("10.244.1.7", "bbb", 20, "net1")}, {}).at("10.244.1.7") == "app-1 aaa");
}

TEST_CASE("an address given out in two networks has no name", "[sandboxes]") {
    const std::vector reservations{reserved("10.244.1.7", "aaa", 10, "net1"),
                                   reserved("10.244.1.7", "bbb", 11, "net2")};
    CHECK(Node({}, reservations, {pod("app-1", "10.244.1.7", 12)}).at("10.244.1.7").starts_with("- "));
}
