// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/host_local.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <string_view>
#include <utility>

#include "base/fingerprint.hpp"
#include "state/node_files.hpp"

namespace hptrace {

namespace {

constexpr std::string_view blanks = " \t\r\n";

// As the CNI specification has it: a letter or digit, then these and ".", "_", "-".
bool is_container_id(std::string_view text) {
    const auto alphanumeric = [](unsigned char c) { return std::isalnum(c) != 0; };
    return !text.empty() && alphanumeric(static_cast<unsigned char>(text.front())) &&
           std::ranges::all_of(text,
                               [&](unsigned char c) { return alphanumeric(c) || c == '.' || c == '_' || c == '-'; });
}

std::string_view first_word(std::string_view text) {
    text.remove_prefix(std::min(text.find_first_not_of(blanks), text.size()));
    return text.substr(0, text.find_first_of(blanks));
}

class Reader {
public:
    void read_network(const std::filesystem::path& folder, const std::string& network) {
        const auto names = read_node_folder(folder / network);
        if (!names) {
            if (names.error().code != ENOTDIR) {
                problems_.push_back(describe({.what = network, .code = names.error().code, .hint = {}}));
            }
            return;
        }
        for (const auto& name : names->value_or(std::vector<std::string>())) {
            if (const auto ip = parse_address(name)) {
                read_address(folder / network / name, network, *ip);
            }
        }
    }

    HostLocal finish(const std::filesystem::path& folder) {
        return {.reservations = std::move(reservations_), .status = status_with(std::move(problems_), folder)};
    }

private:
    void read_address(const std::filesystem::path& path, const std::string& network, const Address& ip) {
        const auto file = read_node_file(path);
        if (!file) {
            problems_.push_back(fmt::format("{}/{}", network, describe(file.error())));
            return;
        }
        const auto& found = *file;
        if (!found) {
            return;
        }
        const auto id = first_word(found->content);
        if (is_container_id(id)) {
            reservations_.push_back(
                {.ip = ip, .network = network, .container_id = std::string(id), .since_ns = found->written_ns});
        } else if (!id.empty()) {
            problems_.push_back(fmt::format("{}/{}: no container id", network, path.filename().string()));
        }
    }

    std::vector<Reservation> reservations_;
    std::vector<std::string> problems_;
};

}  // namespace

HostLocal read_host_local(const std::filesystem::path& folder) {
    const auto read = read_node_folder(folder);
    if (!read) {
        return {.reservations = {}, .status = {.state = SourceState::unreadable, .why = describe(read.error())}};
    }
    const auto& networks = *read;
    if (!networks) {
        return {};
    }
    Reader reader;
    for (const auto& network : *networks) {
        reader.read_network(folder, network);
    }
    return reader.finish(folder);
}

std::uint64_t host_local_version(const std::filesystem::path& folder) {
    Fingerprint print;
    for (const auto& network : add_folder_version(folder, print)) {
        for (const auto& name : add_folder_version(folder / network, print)) {
            if (parse_address(name)) {
                add_file_version(folder / network / name, print);
            }
        }
    }
    return print.value();
}

}  // namespace hptrace
