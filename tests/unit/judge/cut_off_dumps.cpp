// SPDX-License-Identifier: GPL-2.0-or-later
// A file of a dump that is not all there: either that is noticed, or it changes no conflict.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <stdexcept>
#include <string>

#include "judge/judge.hpp"
#include "state/dump.hpp"

using namespace hptrace;
namespace fs = std::filesystem;

namespace {

class FolderCopy {
public:
    explicit FolderCopy(const fs::path& of) {
        std::string pattern = (fs::temp_directory_path() / "hptrace-cut-XXXXXX").string();
        if (::mkdtemp(pattern.data()) == nullptr) {
            throw std::runtime_error("mkdtemp");
        }
        path_ = pattern;
        fs::copy(of, path_, fs::copy_options::recursive);
    }
    FolderCopy(FolderCopy&&) = delete;
    FolderCopy& operator=(FolderCopy&&) = delete;
    FolderCopy(const FolderCopy&) = delete;
    FolderCopy& operator=(const FolderCopy&) = delete;
    ~FolderCopy() { fs::remove_all(path_); }
    [[nodiscard]] const fs::path& path() const { return path_; }

private:
    fs::path path_;
};

std::string contents_of(const fs::path& file) {
    std::ifstream stream(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
}

std::set<std::string> conflicts_of(const NodeState& state) {
    std::set<std::string> found;
    for (const auto& [netns, service, rule, winner, depends_on, code, reason, bypass, stale, id, pod] :
         find_conflicts(state, {}).conflicts) {
        found.insert(fmt::format("{} {}/{} {} {}", service.ip ? to_string(*service.ip) : std::string("*"), service.port,
                                 to_string(service.protocol), rule.chain, static_cast<int>(winner)));
    }
    return found;
}

// Lengths to cut a text to: at the ends of lines and within them, some spread over all of it, and near both ends.
std::set<std::size_t> cuts(const std::string& text) {
    constexpr std::size_t places = 12;
    std::set<std::size_t> lengths{0, 1, text.size() / 2, text.size() - 1};
    for (std::size_t i = 1; i <= places; ++i) {
        const auto line_end = text.rfind('\n', text.size() * i / places - 2);
        if (line_end != std::string::npos) {
            lengths.insert({line_end, line_end + 1, line_end + 2});
        }
    }
    std::size_t table_end = 0;  // iptables-save: behind a table
    while ((table_end = text.find("COMMIT\n", table_end)) != std::string::npos) {
        lengths.insert(table_end += 7);
    }
    lengths.erase(text.size());
    return lengths;
}

}  // namespace

TEST_CASE("of a dump that is cut off anywhere, no conflict is missing without a word") {
    for (const std::string name : {"kube-1.28-ipvs-after", "kube-1.28-iptables-legacy"}) {
        const FolderCopy copy(fs::path(HPTRACE_DUMPS) / name);
        const auto whole = read_dump(copy.path());
        REQUIRE(whole);
        REQUIRE((*whole)->all_sources_read());
        const auto expected = conflicts_of(**whole);
        REQUIRE(expected.size() > 10);
        std::size_t noticed = 0;
        for (const auto& entry : fs::directory_iterator(fs::path(HPTRACE_DUMPS) / name)) {
            const auto file = entry.path().filename();
            if (!entry.is_regular_file() || file == "provenance.json" || file == "meta.json") {
                continue;
            }
            const auto text = contents_of(entry.path());
            for (const std::size_t length : cuts(text)) {
                INFO(name << "/" << file << " cut to " << length << " of " << text.size() << " bytes");
                std::ofstream(copy.path() / file, std::ios::binary) << text.substr(0, length);
                const auto state = read_dump(copy.path());
                REQUIRE(state);
                const bool complete = (*state)->all_sources_read() && (*state)->unread_rules.empty();
                noticed += complete ? 0 : 1;
                if (complete && conflicts_of(**state) != expected) {
                    FAIL_CHECK("not noticed");
                }
            }
            std::ofstream(copy.path() / file, std::ios::binary) << text;
        }
        CHECK(noticed > 60);
    }
}
