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
constexpr std::size_t most_of_a_file = 4096;  // the id is at its beginning
constexpr std::size_t longest_id = 255;       // libcni makes a file's name of it

// As the CNI specification has it: a letter or digit, then these and ".", "_", "-".
bool is_container_id(std::string_view text) {
    const auto alphanumeric = [](unsigned char c) { return std::isalnum(c) != 0; };
    return !text.empty() && text.size() <= longest_id && alphanumeric(static_cast<unsigned char>(text.front())) &&
           std::ranges::all_of(text,
                               [&](unsigned char c) { return alphanumeric(c) || c == '.' || c == '_' || c == '-'; });
}

std::string_view first_word(std::string_view text) {
    text.remove_prefix(std::min(text.find_first_not_of(blanks), text.size()));
    return text.substr(0, text.find_first_of(blanks));
}

class Reader {
public:
    Reader(const RootFolder& root, const std::filesystem::path& folder)
        : files_(root), folder_(folder), shown_(root.path(folder)) {}

    HostLocal read() && {
        const auto networks = files_.names(folder_);
        if (!networks) {
            return {.reservations = {}, .status = unreadable(shown_, networks.error())};
        }
        const auto& names = *networks;
        if (!names) {
            return {};
        }
        for (const auto& network : *names) {
            read_network(network);
        }
        return {.reservations = std::move(reservations_), .status = problems_.status(shown_)};
    }

private:
    void read_network(const std::string& network) {
        const auto read = files_.names(folder_ / network);
        if (!read) {
            if (read.error().code != ENOTDIR) {
                problems_.add(fmt::format("{}: {}", network, describe(read.error())));
            }
            return;
        }
        const auto& names = *read;
        if (!names) {
            return;
        }
        for (const auto& name : *names) {
            if (const auto ip = parse_address(name)) {
                read_address(network, name, *ip);
            }
        }
    }

    void read_address(const std::string& network, const std::string& name, const Address& ip) {
        const auto read = files_.read(folder_ / network / name, most_of_a_file);
        if (!read) {
            problems_.add(fmt::format("{}/{}: {}", network, name, describe(read.error())));
            return;
        }
        const auto& file = *read;
        if (!file) {
            return;
        }
        const auto id = first_word(file->text);
        if (is_container_id(id)) {
            reservations_.push_back(
                {.ip = ip, .network = network, .container_id = std::string(id), .since_ns = file->written_ns});
        } else if (!id.empty()) {
            problems_.add(fmt::format("{}/{}: no container id", network, name));
        }
    }

    NodeFiles files_;
    std::filesystem::path folder_;
    std::filesystem::path shown_;
    std::vector<Reservation> reservations_;
    Problems problems_;
};

}  // namespace

HostLocal read_host_local(const RootFolder& root, const std::filesystem::path& folder) {
    return Reader(root, folder).read();
}

std::uint64_t host_local_version(const RootFolder& root, const std::filesystem::path& folder) {
    NodeFiles files(root);
    Fingerprint print;
    for (const auto& network : files.add_folder_version(folder, print)) {
        for (const auto& name : files.add_folder_version(folder / network, print)) {
            if (parse_address(name)) {
                files.add_file_version(folder / network / name, print);
            }
        }
    }
    return print.value();
}

}  // namespace hptrace
