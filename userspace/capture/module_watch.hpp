// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace hptrace {

// A kernel module that was loaded (its initialisation is done) or is being unloaded.
struct ModuleChange {
    std::string module;
    bool loaded = false;

    bool operator==(const ModuleChange&) const = default;
};

// One message of the kernel: "add@/module/nf_nat" and its variables (lib/kobject_uevent.c). Nothing: of something else.
std::optional<ModuleChange> parse_uevent(std::string_view message);

// Listens to what the kernel announces of its modules (NETLINK_KOBJECT_UEVENT).
class ModuleWatch {
public:
    static Result<ModuleWatch> open();

    // What came and went since the last call, in order. Never waits.
    // Error ENOBUFS: announcements were lost, anything may have come or gone.
    Result<std::vector<ModuleChange>> take();

private:
    explicit ModuleWatch(Fd socket) : socket_(std::move(socket)) {}

    Fd socket_;
};

}  // namespace hptrace
