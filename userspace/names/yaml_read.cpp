// SPDX-License-Identifier: GPL-2.0-or-later
#include "names/yaml_read.hpp"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <sstream>
#include <string_view>

namespace hptrace {

namespace {

// A kubeconfig of a thousand clusters has some 20,000 nodes, seven levels deep.
constexpr std::size_t most_nodes = 100'000;
constexpr std::size_t most_levels = 32;
constexpr std::size_t most_aliases = 1'000;
// Each takes a quarter of a kilobyte in the library before it says anything of it: all of them may begin a key.
constexpr std::ptrdiff_t most_brackets = 20'000;

// Ends the parser at the first node that is one too many.
class Limits final : public YAML::EventHandler {
public:
    void OnDocumentStart(const YAML::Mark& /*at*/) override {}
    void OnDocumentEnd() override {}
    void OnNull(const YAML::Mark& at, YAML::anchor_t /*anchor*/) override { node(at); }
    void OnAlias(const YAML::Mark& at, YAML::anchor_t /*anchor*/) override {
        node(at);
        if (++aliases_ > most_aliases) {
            refuse(at, "too many aliases");
        }
    }
    void OnScalar(const YAML::Mark& at, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                  const std::string& /*value*/) override {
        node(at);
    }
    void OnSequenceStart(const YAML::Mark& at, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                         YAML::EmitterStyle::value /*style*/) override {
        begin(at);
    }
    void OnSequenceEnd() override { --level_; }
    void OnMapStart(const YAML::Mark& at, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                    YAML::EmitterStyle::value /*style*/) override {
        begin(at);
    }
    void OnMapEnd() override { --level_; }

private:
    [[noreturn]] static void refuse(const YAML::Mark& at, const char* why) { throw YAML::ParserException(at, why); }

    void node(const YAML::Mark& at) {
        if (++nodes_ > most_nodes) {
            refuse(at, "too many values");
        }
    }
    void begin(const YAML::Mark& at) {
        node(at);
        if (++level_ > most_levels) {
            refuse(at, "nested too deeply");
        }
    }

    std::size_t nodes_ = 0;
    std::size_t aliases_ = 0;
    std::size_t level_ = 0;
};

}  // namespace

Result<YAML::Node> parse_yaml(const std::string& text) {
    if (std::ranges::count_if(text, [](char c) { return c == '[' || c == '{'; }) > most_brackets) {
        return failure("too many brackets");
    }
    try {
        std::istringstream input(text);
        YAML::Parser parser(input);
        Limits limits;
        parser.HandleNextDocument(limits);
        return YAML::Load(text);
    } catch (const YAML::Exception& error) {
        return failure(fmt::format("line {}: {}", error.mark.line + 1, error.msg));
    } catch (const std::exception& error) {
        return failure(fmt::format("not YAML: {}", error.what()));
    }
}

}  // namespace hptrace
