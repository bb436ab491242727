// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/node_root.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "base/fd.hpp"
#include "state/pod_source.hpp"
#include "state/values.hpp"
#include "temporary_folder.hpp"

using namespace hptrace;
using namespace hptrace::test;
namespace fs = std::filesystem;

namespace {

const std::string entry = R"({"kind":"cniCacheV1","containerId":"abc","cniArgs":[["K8S_POD_NAME","app-1"]],)"
                          R"("result":{"ips":[{"address":"10.244.1.7/24"}]}})";

// A process in namespaces of its own, that sees the cache of a node in a file system of its own over /var/lib. Ends
// with the object.
class NodeProcess {
public:
    explicit NodeProcess(int namespaces) {
        std::array<int, 2> ready{};
        REQUIRE(::pipe2(ready.data(), O_CLOEXEC) == 0);
        const Fd from(ready[0]);
        Fd to(ready[1]);
        pid_ = ::fork();
        if (pid_ == 0) {
            const bool made = ::unshare(namespaces) == 0 && be_root_of(namespaces) &&
                              ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                              ::mount("none", "/var/lib", "tmpfs", 0, nullptr) == 0 && make_cache();
            if (made && ::write(to.get(), "x", 1) == 1) {
                ::pause();
            }
            ::_exit(1);
        }
        to.reset();
        char byte = 0;
        is_there_ = ::read(from.get(), &byte, 1) == 1;
    }
    NodeProcess(const NodeProcess&) = delete;
    NodeProcess(NodeProcess&&) = delete;
    NodeProcess& operator=(const NodeProcess&) = delete;
    NodeProcess& operator=(NodeProcess&&) = delete;
    ~NodeProcess() { end(); }

    [[nodiscard]] bool is_there() const { return is_there_; }
    [[nodiscard]] pid_t pid() const { return pid_; }
    void end() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(std::exchange(pid_, -1), nullptr, 0);
        }
    }

private:
    static bool write(const char* path, std::string_view text) {
        const Fd file(::open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        return ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
    }

    static bool be_root_of(int namespaces) {
        return (namespaces & CLONE_NEWUSER) == 0 ||
               (write("/proc/self/uid_map", "0 0 1") && write("/proc/self/setgroups", "deny") &&
                write("/proc/self/gid_map", "0 0 1"));
    }

    static bool make_cache() {
        for (const auto* const folder : {"/var/lib/cni", "/var/lib/cni/results"}) {
            if (::mkdir(folder, 0755) != 0) {
                return false;
            }
        }
        return write("/var/lib/cni/results/cbr0-abc-eth0", entry);
    }

    pid_t pid_ = -1;
    bool is_there_ = false;
};

Pods pods_of(NodeRoot root) {
    return PodSource(PodFolders::below(std::move(root)), PodSource::Watching::no).news().value();
}

}  // namespace

TEST_CASE("a node that is a container is read by its process", "[node_root]") {
    NodeProcess node(CLONE_NEWNS);
    if (!node.is_there()) {
        SKIP("needs root");
    }
    const auto root = node_root_of(node.pid(), "/no/such/folder");
    CHECK(root.path() == "/proc/" + std::to_string(node.pid()) + "/root");
    const auto pods = pods_of(root);
    REQUIRE(pods.sandboxes.size() == 1);
    CHECK(pods.sandboxes[0].pod_name == "app-1");

    // Then it is not known, rather than unused.
    node.end();
    CHECK(root.open().error().code == ESRCH);
    CHECK(pods_of(root).sources.at("cni").state == SourceState::unreadable);
}

TEST_CASE("whoever makes a user namespace of his own does not say what a node's files are", "[node_root]") {
    const NodeProcess node(CLONE_NEWUSER | CLONE_NEWNS);
    if (!node.is_there()) {
        SKIP("user namespaces cannot be made here");
    }
    CHECK(node_root_of(node.pid(), "/host").path() == "/host");
    const auto opened = NodeRoot::of_process(node.pid()).open();
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code == EPERM);
}

TEST_CASE("nothing in a node's folders leads out of its root, waits or is set going", "[node_root]") {
    const TemporaryFolder folder;
    const auto root = folder.path() / "root";
    const auto results = root / "var/lib/cni/results";
    fs::create_directories(results);
    folder.write("secret", entry);
    folder.write("root/elsewhere", entry);
    fs::create_symlink(folder.path() / "secret", results / "n-out-eth0");
    fs::create_symlink("../../../../../secret", results / "n-up-eth0");
    fs::create_symlink("/dev/zero", results / "n-zero-eth0");
    fs::create_symlink("/elsewhere", results / "n-inside-eth0");
    REQUIRE(::mkfifo((results / "n-pipe-eth0").c_str(), 0600) == 0);
    // Whole folders too.
    fs::create_directory(folder.path() / "networks");
    fs::create_directory(folder.path() / "networks/cbr0");
    folder.write("networks/cbr0/10.244.1.8", "stolen");
    fs::create_symlink(folder.path() / "networks", root / "var/lib/cni/networks");

    const auto pods = pods_of(root);
    REQUIRE(pods.sandboxes.size() == 1);
    CHECK(pods.sandboxes[0].container_id == "abc");  // by the link that stays inside
    CHECK(pods.sources.at("cni").state == SourceState::used);
    CHECK(pods.sources.at("host-local").state == SourceState::unused);
}

TEST_CASE("a folder may be reached by links of its own node", "[node_root]") {
    const TemporaryFolder folder;
    const auto root = folder.path() / "root";
    fs::create_directories(root / "data/cni/results");
    fs::create_directories(root / "var/lib");
    fs::create_symlink("/data/cni", root / "var/lib/cni");  // absolute, as seen by the node
    folder.write("root/data/cni/results/cbr0-abc-eth0", entry);
    CHECK(pods_of(root).sandboxes.size() == 1);
    PodSource watching(PodFolders::below(root), PodSource::Watching::yes);
    CHECK(watching.news());
    CHECK_FALSE(watching.announced());
    fs::remove(root / "data/cni/results/cbr0-abc-eth0");
    CHECK(watching.announced());
    CHECK(watching.news().value().sandboxes.empty());
}
