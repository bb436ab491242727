// SPDX-License-Identifier: GPL-2.0-or-later
// Rules written by the real tools into the namespace of the calling thread, and read back.
#pragma once

#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "fresh_netns.hpp"
#include "state/rule_range.hpp"
#include "state/ruleset.hpp"

// Runs a shell command with `input` on its standard input.
inline void feed(const std::string& command, const std::string& input) {
    std::FILE* pipe = ::popen(command.c_str(), "w");  // NOLINT(cert-env33-c)
    if (pipe == nullptr || std::fwrite(input.data(), 1, input.size(), pipe) != input.size() || ::pclose(pipe) != 0) {
        throw std::runtime_error("failed: " + command);
    }
}

// What a shell command prints.
inline std::string output_of(const std::string& command) {
    std::FILE* pipe = ::popen(command.c_str(), "r");  // NOLINT(cert-env33-c)
    if (pipe == nullptr) {
        throw std::runtime_error("failed: " + command);
    }
    std::string text;
    for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) {
        text += static_cast<char>(c);
    }
    if (::pclose(pipe) != 0) {
        throw std::runtime_error("failed: " + command);
    }
    return text;
}

inline std::string contents_of(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

// `backend`: "legacy" or "nft"; the rules as iptables-save prints them.
inline void restore(const std::string& backend, hptrace::Family family, const std::string& rules) {
    feed((family == hptrace::Family::ipv4 ? "iptables-" : "ip6tables-") + backend + "-restore", rules);
}

template <class T>
T value_of(hptrace::Result<T> result) {
    if (!result) {
        throw std::runtime_error(hptrace::describe(result.error()));
    }
    return *std::move(result);
}

// The same table with all of its rules decoded.
inline hptrace::RuleTable unpacked(hptrace::RuleTable table) {
    if (table.legacy != nullptr) {
        for (hptrace::Chain& chain : table.chains) {
            for (const hptrace::Rule& rule : hptrace::RuleRange(table, chain)) {
                chain.rules.push_back(rule);
            }
        }
    }
    table.legacy.reset();
    return table;
}
inline std::vector<hptrace::RuleTable> unpacked(std::vector<hptrace::RuleTable> tables) {
    for (auto& table : tables) {
        table = unpacked(std::move(table));
    }
    return tables;
}

// Every table of the calling thread's namespace. The kernel is asked for the names of sets while rules are decoded:
// that must be done in the namespace as well.
inline std::vector<hptrace::RuleTable> read_all() {
    auto tables = value_of(hptrace::read_legacy_tables(hptrace::Family::ipv4));
    for (auto more : {hptrace::read_legacy_tables(hptrace::Family::ipv6), hptrace::read_nf_tables()}) {
        for (auto& table : value_of(std::move(more))) {
            tables.push_back(std::move(table));
        }
    }
    return tables;
}
