// SPDX-License-Identifier: GPL-2.0-or-later
// Dump folders: those of real nodes (tests/dumps), copies of them that a test may spoil, and what is read.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "rules.hpp"
#include "state/dump.hpp"

namespace fs = std::filesystem;

inline std::vector<fs::path> dumps() {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(HPTRACE_DUMPS)) {
        if (entry.is_directory()) {
            found.push_back(entry.path());
        }
    }
    std::ranges::sort(found);
    return found;
}

inline hptrace::NodeState read(const fs::path& folder) {
    return *value_of(hptrace::read_dump(folder));
}

// A copy of a dump that a test may spoil; gone afterwards.
class Copy {
public:
    explicit Copy(const std::string& name = "") {
        std::string pattern = (fs::temp_directory_path() / "hptrace-dump-XXXXXX").string();
        if (::mkdtemp(pattern.data()) == nullptr) {
            throw std::runtime_error("mkdtemp");
        }
        path_ = pattern;
        if (!name.empty()) {
            fs::copy(fs::path(HPTRACE_DUMPS) / name, path_, fs::copy_options::recursive);
        }
    }
    Copy(Copy&&) = delete;
    Copy& operator=(Copy&&) = delete;
    Copy(const Copy&) = delete;
    Copy& operator=(const Copy&) = delete;
    ~Copy() { fs::remove_all(path_); }

    [[nodiscard]] const fs::path& path() const { return path_; }
    void write(const std::string& file, const std::string& text) const {
        std::ofstream(path_ / file, std::ios::binary) << text;
    }
    void remove(const std::string& file) const { fs::remove_all(path_ / file); }
    void cut_in_half(const std::string& file) const {
        const auto text = contents_of(path_ / file);
        write(file, text.substr(0, text.size() / 2));
    }

private:
    fs::path path_;
};

// "used", "unused", or why it is unreadable.
inline std::string why(const hptrace::NodeState& state, const std::string& source) {
    using hptrace::SourceState;
    const auto& status = state.sources.at(source);
    return status.state == SourceState::unreadable ? status.why : status.state == SourceState::used ? "used" : "unused";
}
