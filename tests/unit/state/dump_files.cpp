// SPDX-License-Identifier: GPL-2.0-or-later
// Dumps whose files are no files: whoever made the dump may not be a friend.
#include <sys/stat.h>

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <string>
#include <system_error>
#include <thread>

#include "state/dump.hpp"
#include "temporary_folder.hpp"

using namespace hptrace;
namespace fs = std::filesystem;

namespace {

std::string why_not(const fs::path& folder, const std::string& source) {
    const auto state = read_dump(folder);
    return state ? (*state)->sources.at(source).why : describe(state.error());
}

}  // namespace

TEST_CASE("a file of a dump that is none is told, whatever it is", "[dump_files]") {
    const TemporaryFolder folder;
    folder.write("ipset.save", "x\n");
    fs::resize_file(folder.path() / "ipset.save", 10'000'000'000);
    fs::create_symlink("/proc/kmsg", folder.path() / "ipvs.save");
    fs::create_symlink("/dev/zero", folder.path() / "addresses.json");
    REQUIRE(::mkfifo((folder.path() / "nft.json").c_str(), 0600) == 0);
    fs::create_symlink("routes-local.json", folder.path() / "routes-local.json");
    CHECK(why_not(folder.path(), "ipset").starts_with("ipset.save: larger than "));
    CHECK(why_not(folder.path(), "ip_vs") == "ipvs.save: not a stored file but one that the kernel makes up");
    CHECK(why_not(folder.path(), "addresses") == "addresses.json: not a file but a device");
    CHECK(why_not(folder.path(), "nf_tables") == "nft.json: not a file but a pipe");
    CHECK(why_not(folder.path(), "routes").starts_with("routes-local.json: cannot be read: Too many levels"));

    fs::create_symlink("/proc/kmsg", folder.path() / "meta.json");
    CHECK(why_not(folder.path(), "").ends_with("meta.json: not a stored file but one that the kernel makes up"));
}

TEST_CASE("a file of a dump that becomes a pipe meanwhile does not hold it up", "[dump_files]") {
    const TemporaryFolder folder;
    const std::string addresses =
        R"([{"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8}]}])";
    folder.write("stored", addresses);
    REQUIRE(::mkfifo((folder.path() / "pipe").c_str(), 0600) == 0);
    folder.write("addresses.json", addresses);
    std::atomic<bool> stop = false;
    std::thread swaps([&] {
        while (!stop) {
            for (const auto* const name : {"stored", "pipe"}) {
                std::error_code ignored;
                fs::create_hard_link(folder.path() / name, folder.path() / "next", ignored);
                fs::rename(folder.path() / "next", folder.path() / "addresses.json", ignored);
            }
        }
    });
    for (int i = 0; i < 1000; ++i) {
        const auto why = why_not(folder.path(), "addresses");
        if (!why.empty() && why != "addresses.json: not a file but a pipe") {
            FAIL_CHECK(why);
        }
    }
    stop = true;
    swaps.join();
}
