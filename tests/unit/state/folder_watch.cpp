// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/folder_watch.hpp"

#include <sys/resource.h>

#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "temporary_folder.hpp"

using namespace hptrace;
namespace fs = std::filesystem;

namespace {

using News = FolderWatch::News;

const NodeRoot root(fs::path("/"));

void write(const fs::path& path, const std::string& text = "text") {
    std::ofstream(path) << text;
}

// Is it noticed, and only once?
bool noticed(FolderWatch& watch, const std::function<void()>& change) {
    watch.watch();
    CHECK(watch.news() == News::none);
    change();
    const bool some = watch.news() == News::some;
    CHECK((watch.news() == News::some) == some);  // until it is watched again
    watch.watch();
    CHECK(watch.news() == News::none);
    return some;
}

// As few files as are open now.
class NoMoreFiles {
public:
    NoMoreFiles() {
        ::getrlimit(RLIMIT_NOFILE, &before_);
        const rlimit none{.rlim_cur = 0, .rlim_max = before_.rlim_max};
        ::setrlimit(RLIMIT_NOFILE, &none);
    }
    NoMoreFiles(const NoMoreFiles&) = delete;
    NoMoreFiles(NoMoreFiles&&) = delete;
    NoMoreFiles& operator=(const NoMoreFiles&) = delete;
    NoMoreFiles& operator=(NoMoreFiles&&) = delete;
    ~NoMoreFiles() { ::setrlimit(RLIMIT_NOFILE, &before_); }

private:
    rlimit before_{};
};

}  // namespace

TEST_CASE("what happens to files of a folder is noticed", "[folder_watch]") {
    const TemporaryFolder folder;
    const auto file = folder.path() / "file";
    FolderWatch watch(root, {{.path = folder.path()}});
    CHECK(watch.news() == News::unknown);  // not yet watched
    CHECK(noticed(watch, [&] { write(file); }));
    CHECK(noticed(watch, [&] { write(file, "other"); }));
    CHECK(noticed(watch, [&] { fs::permissions(file, fs::perms::none); }));
    CHECK(noticed(watch, [&] { fs::rename(file, folder.path() / "renamed"); }));
    CHECK(noticed(watch, [&] { fs::remove(folder.path() / "renamed"); }));
}

TEST_CASE("what is only looked at is no news", "[folder_watch]") {
    const TemporaryFolder folder;
    folder.write("file", "text");
    fs::create_directories(folder.path() / "sub/deeper");
    FolderWatch watch(root, {{.path = folder.path()}});
    watch.watch();
    std::string text;
    std::ifstream(folder.path() / "file") >> text;
    CHECK(text == "text");
    CHECK(fs::directory_iterator(folder.path()) != fs::directory_iterator());
    write(folder.path() / "sub/file");
    CHECK(watch.news() == News::none);
}

TEST_CASE("subfolders are watched where they count, also new ones", "[folder_watch]") {
    const TemporaryFolder folder;
    fs::create_directory(folder.path() / "old");
    FolderWatch watch(root, {{.path = folder.path(), .subfolders = true}});
    CHECK(noticed(watch, [&] { write(folder.path() / "old/file"); }));
    CHECK(noticed(watch, [&] { fs::create_directory(folder.path() / "new"); }));
    CHECK(noticed(watch, [&] { write(folder.path() / "new/file"); }));
    CHECK(noticed(watch, [&] { fs::remove(folder.path() / "new/file"); }));
    CHECK(noticed(watch, [&] { fs::remove_all(folder.path() / "old"); }));
    fs::create_directory(folder.path() / "new/deeper");
    CHECK_FALSE(noticed(watch, [&] { write(folder.path() / "new/deeper/file"); }));
}

TEST_CASE("a folder that appears, goes or is replaced is noticed, and watched from then on", "[folder_watch]") {
    const TemporaryFolder parent;
    const auto folder = parent.path() / "a/folder";
    FolderWatch watch(root, {{.path = folder, .subfolders = true}});
    CHECK(noticed(watch, [&] { fs::create_directories(folder); }));
    CHECK(noticed(watch, [&] { write(folder / "file"); }));
    // Nothing happens to the folder itself.
    CHECK(noticed(watch, [&] {
        fs::rename(parent.path() / "a", parent.path() / "b");
        fs::create_directories(folder);
    }));
    CHECK_FALSE(noticed(watch, [&] { write(parent.path() / "b/folder/file"); }));
    CHECK(noticed(watch, [&] { write(folder / "file"); }));
    CHECK(noticed(watch, [&] { fs::remove_all(folder); }));
    CHECK(noticed(watch, [&] { write(folder); }));  // a file
    CHECK(noticed(watch, [&] {
        fs::remove(folder);
        fs::create_directory(folder);
    }));
    CHECK(noticed(watch, [&] { write(folder / "file"); }));
}

TEST_CASE("each of several folders is watched, though another is not there", "[folder_watch]") {
    const TemporaryFolder one;
    const TemporaryFolder other;
    FolderWatch watch(root, {{.path = one.path()}, {.path = "/no/such/folder"}, {.path = other.path()}});
    CHECK(noticed(watch, [&] { write(one.path() / "file"); }));
    CHECK(noticed(watch, [&] { write(other.path() / "file"); }));
}

TEST_CASE("after more events than the kernel keeps nothing is missed", "[folder_watch]") {
    const TemporaryFolder folder;
    FolderWatch watch(root, {{.path = folder.path()}});
    watch.watch();
    std::ifstream limit_file("/proc/sys/fs/inotify/max_queued_events");
    int limit = 0;
    REQUIRE(limit_file >> limit);
    std::ofstream one(folder.path() / "one");
    std::ofstream other(folder.path() / "other");
    for (int i = 0; i <= limit; ++i) {  // events of the same kind one after the other would be one
        (i % 2 == 0 ? one : other) << "." << std::flush;
    }
    CHECK(watch.news() == News::some);
    CHECK(noticed(watch, [&] { one << "." << std::flush; }));
}

TEST_CASE("where inotify is not to be had nothing is claimed, until it is", "[folder_watch]") {
    const TemporaryFolder folder;
    FolderWatch watch(root, {{.path = folder.path()}});
    {
        const NoMoreFiles limit;
        watch.watch();
        CHECK(watch.news() == News::unknown);
    }
    CHECK(watch.news() == News::unknown);
    CHECK(noticed(watch, [&] { write(folder.path() / "file"); }));
}
