// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/pod_source.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <filesystem>
#include <string>

#include "base/fd.hpp"
#include "kubelet_folder.hpp"
#include "state/values.hpp"

using namespace hptrace;
using namespace hptrace::test;
namespace fs = std::filesystem;

namespace {

using Watching = PodSource::Watching;

// The root of a node, without anything at first.
class Root {
public:
    [[nodiscard]] const fs::path& path() const { return root_.path(); }
    [[nodiscard]] PodFolders folders() const { return PodFolders::below(path()); }

    void write(const std::string& name, const std::string& content, int order = 0) const {
        fs::create_directories((path() / name).parent_path());
        root_.write(name, content, order);
    }
    void reserve(const std::string& ip, const std::string& id) const {
        write("var/lib/cni/networks/cbr0/" + ip, id + "\r\neth0", 1);
    }
    void start_pod(const std::string& name, const std::string& ip) const {
        write("var/lib/kubelet/pods/uid-" + name + "/etc-hosts", etc_hosts(ip + "\t" + name + "\n"), 2);
        fs::create_directories(path() / ("var/log/pods/default_" + name + "_uid-" + name));
    }
    void cache(const std::string& id, const std::string& ip) const {
        write("var/lib/cni/results/cbr0-" + id + "-eth0",
              R"({"cniVersion":"1.0.0","ips":[{"address":")" + ip + R"(/24"}]})", 1);
    }

private:
    TemporaryFolder root_;
};

std::string pod_at(const Pods& pods, const char* ip) {
    NodeState state;
    state.sandboxes = pods.sandboxes;
    state.index();
    const auto* const sandbox = state.find_sandbox(parse_address(ip).value());
    return sandbox == nullptr ? "nobody" : sandbox->pod_name;
}

// The same length, by a way that inotify does not see but the file's times show.
void overwrite_unseen(const fs::path& path, const std::string& content) {
    const Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(fd);
    void* const memory = ::mmap(nullptr, content.size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    REQUIRE(memory != MAP_FAILED);
    content.copy(static_cast<char*>(memory), content.size());
    ::msync(memory, content.size(), MS_SYNC);
    ::munmap(memory, content.size());
}

}  // namespace

TEST_CASE("a node without any of it names nobody, and that is no failure", "[pod_source]") {
    const Root root;
    PodSource source(root.folders(), Watching::yes);
    const auto pods = source.news();
    REQUIRE(pods);
    CHECK(pods->sandboxes.empty());
    CHECK_FALSE(pods->sandboxes_complete);
    for (const auto* const name : {"cni", "host-local", "kubelet"}) {
        CHECK(pods->sources.at(name).state == SourceState::unused);
    }
    CHECK_FALSE(source.news());
    CHECK_FALSE(source.announced());
}

TEST_CASE("pods that come, go and appear elsewhere are news once", "[pod_source]") {
    const auto watching = GENERATE(Watching::yes, Watching::no);
    const Root root;
    PodSource source(root.folders(), watching);
    CHECK(source.news());
    root.reserve("10.244.1.7", id_a);
    root.start_pod("app-1", "10.244.1.7");
    CHECK(source.announced());
    CHECK(source.announced());  // until it is read
    const auto first = source.news();
    REQUIRE(first);
    CHECK(pod_at(*first, "10.244.1.7") == "app-1");
    CHECK(first->sources.at("host-local").state == SourceState::used);
    CHECK(first->sources.at("kubelet").state == SourceState::used);
    CHECK_FALSE(source.announced());
    CHECK_FALSE(source.news());

    root.start_pod("app-2", "10.244.1.8");
    root.reserve("10.244.1.8", std::string(64, 'b'));
    const auto second = source.news();
    REQUIRE(second);
    CHECK(pod_at(*second, "10.244.1.8") == "app-2");

    fs::remove(root.path() / "var/lib/cni/networks/cbr0/10.244.1.7");
    const auto third = source.news();
    REQUIRE(third);
    CHECK(pod_at(*third, "10.244.1.7") == "nobody");
    CHECK(pod_at(*third, "10.244.1.8") == "app-2");

    root.cache(id_a, "10.244.1.9");
    const auto fourth = source.news();
    REQUIRE(fourth);
    CHECK(fourth->sandboxes_complete);
    CHECK(fourth->sources.at("cni").state == SourceState::used);
    CHECK_FALSE(source.news());
}

TEST_CASE("who was in the CNI cache and is not is known to be gone; a cache that is emptied says nothing",
          "[pod_source]") {
    const Root root;
    const std::string id_b(64, 'b');
    const auto file_of = [&root](const std::string& id) {
        return root.path() / ("var/lib/cni/results/cbr0-" + id + "-eth0");
    };
    root.cache(id_a, "10.244.1.9");
    root.cache(id_b, "10.244.1.10");
    PodSource source(root.folders(), Watching::no);
    CHECK(source.news()->gone_sandboxes.empty());
    fs::remove(file_of(id_b));
    const auto gone = source.news();
    REQUIRE(gone);
    REQUIRE(gone->gone_sandboxes.contains(id_b));
    CHECK(gone->gone_sandboxes.at(id_b) > 0);
    CHECK(gone->gone_sandboxes.size() == 1);

    root.cache(id_b, "10.244.1.10");
    CHECK(source.news()->gone_sandboxes.empty());
    fs::remove(file_of(id_a));
    fs::remove(file_of(id_b));
    CHECK(source.news()->gone_sandboxes.empty());
    root.cache(id_a, "10.244.1.9");
    root.write("var/lib/cni/results/broken", "{");  // not all of it was read: the other one may be what is broken
    CHECK(source.news()->gone_sandboxes.empty());
}

TEST_CASE("files are looked at again only after an event", "[pod_source]") {
    const Root root;
    root.start_pod("app-1", "10.244.1.7");
    PodSource watching(root.folders(), Watching::yes);
    PodSource looking(root.folders(), Watching::no);
    CHECK(watching.news());
    CHECK(looking.news());
    overwrite_unseen(root.path() / "var/lib/kubelet/pods/uid-app-1/etc-hosts", etc_hosts("10.244.1.8\tapp-1\n"));
    CHECK_FALSE(watching.news());
    CHECK(looking.news());
    root.reserve("10.0.0.1", id_a);
    const auto pods = watching.news();
    REQUIRE(pods);
    CHECK(pod_at(*pods, "10.244.1.8") == "app-1");
}

TEST_CASE("a folder that cannot be read is told, the others are read", "[pod_source]") {
    const Root root;
    root.start_pod("app-1", "10.244.1.7");
    root.write("var/lib/cni/networks", "a file");
    const auto pods = PodSource(root.folders(), Watching::yes).news();
    REQUIRE(pods);
    CHECK(pods->sources.at("host-local").state == SourceState::unreadable);
    CHECK(pod_at(*pods, "10.244.1.7") == "app-1");
}
