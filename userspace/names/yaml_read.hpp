// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <yaml-cpp/yaml.h>

#include <string>

#include "base/error.hpp"

namespace hptrace {

// The first document, if it has the size of a file that people write: bounded in nodes, depth and aliases before any of
// it is built. Error: the line and what is wrong with it, whatever the library throws.
Result<YAML::Node> parse_yaml(const std::string& text);

}  // namespace hptrace
