// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>

#include "base/error.hpp"

namespace hptrace {

// What was reported already, kept in a file so that a restart alarms nobody again. The file is replaced whole, when
// something new is reported or a conflict ends: seldom.
class Reported {
public:
    // Nothing is kept beyond this run.
    Reported() = default;
    // In this file, which need not exist yet. One that cannot be read is an error, and nothing is known then.
    static Result<Reported> open(std::filesystem::path file);

    // Reported by this run or before.
    [[nodiscard]] bool contains(const std::string& what) const { return known_.contains(what); }
    // Both return the failure of writing the file; what they change holds for this run all the same.
    std::optional<Error> add(const std::string& what);
    std::optional<Error> remove(const std::string& what);
    [[nodiscard]] const std::set<std::string>& all() const { return known_; }

private:
    [[nodiscard]] std::optional<Error> write() const;

    std::filesystem::path file_;  // empty: none
    std::set<std::string> known_;
};

}  // namespace hptrace
