// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/reported.hpp"

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <utility>

#include "base/file.hpp"

namespace hptrace {

namespace {

constexpr std::size_t most_of_file = 16UL * 1024 * 1024;

}  // namespace

Result<Reported> Reported::open(std::filesystem::path file) {
    Reported reported;
    const auto text = read_file(file, most_of_file);
    if (!text && !is_absent(text.error())) {
        return failure(file.string() + ": " + describe(text.error()));
    }
    std::istringstream lines(text.value_or(std::string()));
    for (std::string line; std::getline(lines, line);) {
        if (!line.empty()) {
            reported.known_.insert(line);
        }
    }
    reported.file_ = std::move(file);
    return reported;
}

std::optional<Error> Reported::add(const std::string& what) {
    return known_.insert(what).second ? write() : std::nullopt;
}

std::optional<Error> Reported::remove(const std::string& what) {
    return known_.erase(what) > 0 ? write() : std::nullopt;
}

std::optional<Error> Reported::write() const {
    if (file_.empty()) {
        return std::nullopt;
    }
    const auto replacement = file_.string() + ".new";
    errno = 0;
    std::ofstream lines(replacement, std::ios::trunc);
    for (const auto& what : known_) {
        lines << what << '\n';
    }
    lines.close();
    if (!lines || std::rename(replacement.c_str(), file_.c_str()) != 0) {
        return Error{"cannot write " + file_.string(), errno, {}};
    }
    return std::nullopt;
}

}  // namespace hptrace
