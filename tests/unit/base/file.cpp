// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/file.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <cerrno>
#include <filesystem>
#include <string>
#include <thread>

#include "temporary_folder.hpp"
#include "without_proc.hpp"

using namespace hptrace;

namespace {

constexpr std::size_t limit = 1024;

std::string why_not(const std::filesystem::path& path, std::size_t most = limit) {
    const auto read = read_file(path, most);
    return read ? "read: " + *read : describe(read.error());
}

// Tells whether somebody has opened a pipe for reading: only then does this succeed (fifo(7)).
bool has_reader(const std::filesystem::path& pipe) {
    return static_cast<bool>(Fd(::open(pipe.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC)));
}

}  // namespace

TEST_CASE("A file is read whole, up to its limit") {
    const TemporaryFolder folder;
    folder.write("file", "some\0text");
    CHECK(read_file(folder.path() / "file", limit) == "some");
    folder.write("zeroes", std::string(limit, '\0'));
    CHECK(read_file(folder.path() / "zeroes", limit) == std::string(limit, '\0'));
    folder.write("empty", "");
    CHECK(read_file(folder.path() / "empty", limit) == "");

    folder.write("long", std::string(limit + 1, 'x'));
    CHECK(why_not(folder.path() / "long") == "larger than 1024 bytes");
    CHECK(why_not(folder.path() / "long", limit + 1).starts_with("read: x"));

    const auto begin = read_file_begin(folder.path() / "long", limit);
    REQUIRE(begin);
    CHECK(begin->text == std::string(limit, 'x'));
    CHECK(begin->cut_off);
    CHECK_FALSE(read_file_begin(folder.path() / "zeroes", limit)->cut_off);
}

TEST_CASE("Links that the user names are followed") {
    const TemporaryFolder folder;
    folder.write("file", "text");
    std::filesystem::create_symlink("file", folder.path() / "link");
    CHECK(read_file(folder.path() / "link", limit) == "text");
}

TEST_CASE("What is not there is told from what cannot be read") {
    const TemporaryFolder folder;
    folder.write("file", "text");
    for (const auto* const name : {"nothing", "nothing/at/all", "file/below"}) {
        const auto read = read_file(folder.path() / name, limit);
        REQUIRE_FALSE(read);
        CHECK(is_absent(read.error()));
    }
    CHECK(why_not(folder.path() / "nothing") == "cannot be read: No such file or directory");
    // Not what is named up to the zero.
    CHECK(why_not(folder.path() / std::string("file\0.txt", 9)) == "cannot be read: No such file or directory");

    std::filesystem::create_symlink("loop", folder.path() / "loop");
    const auto loop = read_file(folder.path() / "loop", limit);
    REQUIRE_FALSE(loop);
    CHECK(loop.error().code == ELOOP);
    CHECK_FALSE(is_absent(loop.error()));
}

TEST_CASE("Holes cost nothing") {
    const TemporaryFolder folder;
    folder.write("holes", "x");
    std::filesystem::resize_file(folder.path() / "holes", 10'000'000'000);
    CHECK(why_not(folder.path() / "holes", 256UL * 1024 * 1024) == "larger than 256 MiB");
}

TEST_CASE("Only stored files are opened") {
    const TemporaryFolder folder;
    CHECK(why_not(folder.path()) == "not a file but a directory");

    REQUIRE(::mkfifo((folder.path() / "pipe").c_str(), 0600) == 0);
    CHECK(why_not(folder.path() / "pipe") == "not a file but a pipe");

    const Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    (folder.path() / "socket").native().copy(address.sun_path, sizeof(address.sun_path) - 1);
    REQUIRE(::bind(socket.get(), std::bit_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    CHECK(why_not(folder.path() / "socket") == "not a file but a socket");

    CHECK(why_not("/dev/zero") == "not a file but a device");
    CHECK(why_not("/dev/null") == "read: ");  // as on any command line
    // Regular by their type, but made up while they are read; some of them wait for news.
    const auto* const made_up = GENERATE("/proc/kmsg", "/proc/self/status", "/proc/self/ns/net",
                                         "/sys/kernel/mm/ksm/run", "/sys/kernel/notes", "/sys/fs/cgroup/cgroup.procs");
    if (std::filesystem::is_regular_file(made_up)) {
        CHECK(why_not(made_up) == "not a stored file but one that the kernel makes up");
    }
}

TEST_CASE("A device is not even opened") {
    const TemporaryFolder folder;
    // Nobody serves this number: to open it would fail in a way of its own, ENXIO.
    if (::mknod((folder.path() / "device").c_str(), S_IFCHR | 0600, makedev(511, 0)) != 0) {
        SKIP("devices cannot be made here");
    }
    CHECK(why_not(folder.path() / "device") == "not a file but a device");
}

TEST_CASE("A file that becomes a pipe meanwhile neither waits nor has its writer answered") {
    const TemporaryFolder folder;
    const auto file = folder.path() / "file";
    const auto pipe = folder.path() / "pipe";
    folder.write("stored", "text");
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    std::atomic<bool> stop = false;
    std::atomic<bool> opened = false;
    std::thread changes([&] {
        const auto next = folder.path() / "next";
        while (!stop) {
            for (const auto* const name : {"stored", "pipe"}) {
                std::error_code ignored;
                std::filesystem::create_hard_link(folder.path() / name, next, ignored);
                std::filesystem::rename(next, file, ignored);
            }
            opened = opened || has_reader(pipe);
        }
    });
    int read = 0;
    // Until the file has been one at least, however late the other thread is started.
    for (int i = 0; i < 5000 || (read == 0 && i < 5'000'000); ++i) {
        const auto why = why_not(file);
        read += why == "read: text" ? 1 : 0;
        if (why != "read: text" && why != "not a file but a pipe" &&
            why != "cannot be read: No such file or directory") {
            FAIL_CHECK(why);
        }
    }
    stop = true;
    changes.join();
    CHECK(read > 0);
    CHECK_FALSE(opened);
}

TEST_CASE("Where there is no /proc a file is read all the same") {
    const TemporaryFolder folder;
    folder.write("stored", "text");
    REQUIRE(::mkfifo((folder.path() / "pipe").c_str(), 0600) == 0);
    std::string stored;
    std::string pipe;
    REQUIRE(without_proc([&] {
        stored = why_not(folder.path() / "stored");
        pipe = why_not(folder.path() / "pipe");
    }));
    CHECK(stored == "read: text");
    CHECK(pipe == "not a file but a pipe");
}
