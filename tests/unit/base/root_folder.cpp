// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/root_folder.hpp"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include "base/file.hpp"
#include "temporary_folder.hpp"
#include "without_proc.hpp"

using namespace hptrace;
namespace fs = std::filesystem;

namespace {

constexpr std::size_t limit = 1024;

// From now on openat2() fails with this for the calling thread, as on kernels before 5.6 (ENOSYS) and under container
// runtimes that do not know it (EPERM).
void refuse_openat2(int error) {
    std::array filter{
        sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
        sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{.len = filter.size(), .filter = filter.data()};
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

// Runs it with openat2() as this kernel has it, and without. A filter cannot be taken back, so it gets a thread.
void with_and_without_openat2(const std::function<void()>& run) {
    const int error = GENERATE(0, ENOSYS, EPERM);
    CAPTURE(error);
    std::thread([&] {
        if (error != 0) {
            refuse_openat2(error);
        }
        run();
    }).join();
}

// The root of a tree, with something beside it that is none of its business.
class Tree {
public:
    Tree() {
        fs::create_directories(path() / "folder");
        folder_.write("root/file", "inside");
        folder_.write("root/folder/file", "deeper");
        folder_.write("secret", "outside");
    }

    [[nodiscard]] fs::path path() const { return folder_.path() / "root"; }
    [[nodiscard]] fs::path outside() const { return folder_.path() / "secret"; }
    void link(const fs::path& target, const std::string& name) const { fs::create_symlink(target, path() / name); }

private:
    struct Folder : TemporaryFolder {
        Folder() { fs::create_directory(path() / "root"); }
    };
    Folder folder_;
};

std::string read_in(const fs::path& root, const fs::path& inside) {
    const auto folder = RootFolder::open(root);
    const auto place = folder ? folder->open_place(inside) : std::unexpected(folder.error());
    const auto content = place ? folder->read_begin(*place, inside, limit) : std::unexpected(place.error());
    return content ? content->text : describe(content.error());
}

}  // namespace

TEST_CASE("Paths count from the root folder") {
    const Tree tree;
    with_and_without_openat2([&] {
        CHECK(read_in(tree.path(), "file") == "inside");
        CHECK(read_in(tree.path(), "/file") == "inside");
        CHECK(read_in(tree.path(), "folder/./file") == "deeper");
        CHECK(read_in(tree.path(), "folder/../file") == "inside");
        CHECK(read_in(tree.path(), "../../file") == "inside");
        CHECK(read_in(tree.path(), "../secret") == "cannot be read: No such file or directory");
        CHECK(read_in(tree.path(), "") == "not a file but a directory");
        CHECK(read_in(tree.path(), "file/below") == "cannot be read: Not a directory");
        CHECK(read_in(tree.path(), "file/..") == "cannot be read: Not a directory");
        CHECK(read_in(tree.path(), std::string("file\0more", 9)) == "cannot be read: No such file or directory");
    });
}

TEST_CASE("Files are read where there is no /proc, too") {
    const Tree tree;
    tree.link("/folder/file", "absolute");
    with_and_without_openat2([&] {
        std::vector<std::string> read;
        const bool done = without_proc([&] {
            for (const auto* const file : {"file", "/folder/file", "folder/../file", "../secret", "absolute"}) {
                read.push_back(read_in(tree.path(), file));
            }
        });
        REQUIRE(done);
        REQUIRE(read.size() == 5);
        CHECK(read[0] == "inside");
        CHECK(read[1] == "deeper");
        CHECK(read[2] == "inside");
        CHECK(read[3] == "cannot be read: No such file or directory");
        // A link is followed by openat2() alone, which does not let it lead out.
        CHECK((read[4] == "deeper" || read[4] == "cannot be read: Too many levels of symbolic links"));
    });
}

TEST_CASE("Links lead to what is below the root, and nowhere else") {
    const Tree tree;
    tree.link("folder", "to-folder");
    tree.link("to-folder/../to-folder/file", "to-link");
    tree.link("/folder/file", "absolute");
    tree.link(tree.outside(), "out");
    tree.link("../secret", "up");
    tree.link("../../../../../../../../../../../../etc/passwd", "far-up");
    tree.link("/etc/passwd", "passwd");
    tree.link("loop", "loop");
    with_and_without_openat2([&] {
        CHECK(read_in(tree.path(), "to-folder/file") == "deeper");
        CHECK(read_in(tree.path(), "to-link") == "deeper");
        CHECK(read_in(tree.path(), "absolute") == "deeper");
        for (const auto* const name : {"out", "up", "far-up", "passwd", "passwd/below"}) {
            CHECK(read_in(tree.path(), name) == "cannot be read: No such file or directory");
        }
        CHECK(read_in(tree.path(), "loop") == "cannot be read: Too many levels of symbolic links");
    });
}

TEST_CASE("Chains of links end") {
    const Tree tree;
    // Each is resolved twice on the way to the one before: 2^30 steps without a limit.
    tree.link("folder", "link-0");
    for (int i = 1; i <= 30; ++i) {
        const auto before = "link-" + std::to_string(i - 1);
        tree.link(before + "/../" + before, "link-" + std::to_string(i));
    }
    with_and_without_openat2([&] {
        CHECK(read_in(tree.path(), "link-3/file") == "deeper");
        CHECK(read_in(tree.path(), "link-30/file") == "cannot be read: Too many levels of symbolic links");
    });
}

TEST_CASE("The magic links of /proc are no way out") {
    const Tree tree;
    const Fd secret(::open(tree.outside().c_str(), O_RDONLY | O_CLOEXEC));
    with_and_without_openat2([&] {
        const auto fd = "proc/self/fd/" + std::to_string(secret.get());
        for (const auto& path : {fd, std::string("proc/self/root/etc/passwd"), std::string("proc/self/exe")}) {
            const auto root = RootFolder::open("/");
            REQUIRE(root);
            const auto place = root->open_place(path);
            REQUIRE_FALSE(place);
            CHECK(place.error().code == ELOOP);
        }
    });
}

TEST_CASE("Opening a place sets nothing going") {
    const Tree tree;
    const auto pipe = tree.path() / "pipe";
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    const bool device = ::mknod((tree.path() / "device").c_str(), S_IFCHR | 0600, makedev(511, 0)) == 0;
    with_and_without_openat2([&] {
        CHECK(read_in(tree.path(), "pipe") == "not a file but a pipe");
        if (device) {  // opened, it would be ENXIO: nobody serves that number
            CHECK(read_in(tree.path(), "device") == "not a file but a device");
        }
    });
}

TEST_CASE("A folder that is swapped for a link meanwhile never leads out") {
    const Tree tree;
    fs::create_directory(tree.path() / "real");
    fs::create_symlink("inside", tree.path() / "real/file");
    std::ofstream(tree.path() / "real/inside") << "real";
    tree.link("..", "away");
    std::ofstream(tree.path() / "inside") << "top";
    with_and_without_openat2([&] {
        std::atomic<bool> stop = false;
        std::thread swaps([&] {
            while (!stop) {
                ::renameat2(AT_FDCWD, (tree.path() / "real").c_str(), AT_FDCWD, (tree.path() / "away").c_str(),
                            RENAME_EXCHANGE);
            }
        });
        int odd = 0;
        for (int i = 0; i < 2000; ++i) {
            const auto text = read_in(tree.path(), "real/../away/../../../secret");
            odd += text == "outside" ? 1 : 0;
        }
        stop = true;
        swaps.join();
        CHECK(odd == 0);
    });
}

TEST_CASE("A folder is listed up to a limit") {
    const Tree tree;
    tree.link("folder", "link");
    tree.link("/", "top");
    with_and_without_openat2([&] {
        const auto root = RootFolder::open(tree.path());
        REQUIRE(root);
        CHECK(root->list("link", 1) == std::vector<std::string>{"file"});
        CHECK(root->list("top", 4).value_or(std::vector<std::string>()).size() == 4);
        CHECK(describe(root->list("", 3).error()) == "more than 3 files");
        CHECK(root->list("file", 3).error().code == ENOTDIR);
        CHECK(root->list("nothing", 3).error().code == ENOENT);
    });
}

TEST_CASE("The root may be reached by links, and must be a folder") {
    const Tree tree;
    tree.link("folder", "link");
    CHECK(read_in(tree.path() / "link", "file") == "deeper");
    CHECK(RootFolder::open(tree.path() / "file").error().code == ENOTDIR);
    CHECK(RootFolder::open(tree.path() / "nothing").error().code == ENOENT);
    CHECK(RootFolder::open(tree.path())->path("/folder/file") == tree.path() / "folder/file");
    CHECK(RootFolder::open(tree.path())->path() == tree.path());
}
