// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/host_local.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "state/values.hpp"
#include "temporary_folder.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

// A folder with one network, "cbr0".
class Networks : public TemporaryFolder {
public:
    Networks() { std::filesystem::create_directory(path() / "cbr0"); }
};

}  // namespace

TEST_CASE("a reservation says which container has an address", "[host_local]") {
    const Networks folder;
    folder.write("cbr0/10.244.1.7", id_a + "\r\neth0", 1);
    folder.write("cbr0/fd00:10::7", id_a + "\r\neth0", 1);
    folder.write("cbr0/10.244.1.8", id_b, 2);  // as old versions wrote it
    folder.write("cbr0/last_reserved_ip.0", "10.244.1.8");
    folder.write("cbr0/lock", "");
    folder.write("stray", "10.0.0.1");
    const auto found = read_host_local(whole_node(), folder.path());
    CHECK(found.status.state == SourceState::used);
    REQUIRE(found.reservations.size() == 3);
    CHECK(found.reservations[0].ip == address("10.244.1.7"));
    CHECK(found.reservations[0].network == "cbr0");
    CHECK(found.reservations[0].container_id == id_a);
    CHECK(found.reservations[1].container_id == id_b);
    CHECK(found.reservations[1].since_ns > found.reservations[0].since_ns);
    CHECK(found.reservations[2].ip == address("fd00:10::7"));
}

TEST_CASE("bad reservations are skipped and told, others are not lost", "[host_local]") {
    const Networks folder;
    folder.write("cbr0/10.244.1.7", id_a + "\r\neth0");
    folder.write("cbr0/10.244.1.8", "");  // cut off, or being written
    CHECK(read_host_local(whole_node(), folder.path()).status.state == SourceState::used);
    folder.write("cbr0/10.244.1.9", "\x01\x02\x03");
    const auto one = read_host_local(whole_node(), folder.path());
    CHECK(one.status.state == SourceState::unreadable);
    CHECK(one.status.why == folder.path().string() + "/cbr0/10.244.1.9: no container id");
    folder.write("cbr0/10.244.1.10", std::string(2UL * 1024 * 1024, 'a'));
    const auto two = read_host_local(whole_node(), folder.path());
    CHECK(two.status.why.starts_with("2 files in "));
    CHECK(two.reservations.size() == 1);
}

TEST_CASE("only the beginning of a reservation is read", "[host_local]") {
    const Networks folder;
    folder.write("cbr0/10.244.1.7", id_a + "\r\neth0\r\n" + std::string(2UL * 1024 * 1024, 'x'));
    folder.write("cbr0/10.244.1.8", id_b);
    std::filesystem::resize_file(folder.path() / "cbr0/10.244.1.8", 10'000'000'000);
    const auto found = read_host_local(whole_node(), folder.path());
    REQUIRE(found.reservations.size() == 1);
    CHECK(found.reservations[0].container_id == id_a);
    CHECK(found.status.why.ends_with("10.244.1.8: no container id"));
}

TEST_CASE("no host-local is no failure, something else in its place is", "[host_local]") {
    CHECK(read_host_local(whole_node(), "/no/such/folder").status.state == SourceState::unused);
    CHECK(read_host_local(whole_node(), "/etc/passwd").status.state == SourceState::unreadable);
}

TEST_CASE("reservations that would read differently have another version", "[host_local]") {
    const Networks folder;
    std::vector<std::uint64_t> versions{host_local_version(whole_node(), "/no/such/folder")};
    const auto changed = [&] {
        const auto now = host_local_version(whole_node(), folder.path());
        CHECK(host_local_version(whole_node(), folder.path()) == now);
        const bool is_new = std::ranges::find(versions, now) == versions.end();
        versions.push_back(now);
        return is_new;
    };
    CHECK(changed());
    folder.write("cbr0/10.244.1.7", id_a + "\r\neth0", 1);
    CHECK(changed());
    folder.write("cbr0/10.244.1.7", id_b + "\r\neth0", 2);
    CHECK(changed());
    std::filesystem::rename(folder.path() / "cbr0", folder.path() / "cbr1");
    CHECK(changed());
    std::filesystem::remove(folder.path() / "cbr1/10.244.1.7");
    CHECK(changed());
}
