// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/cni_cache.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "base/fd.hpp"
#include "base/fingerprint.hpp"

namespace hptrace {

namespace {

using nlohmann::json;

// Far more than a sandbox needs; annotations in capabilityArgs can make files some 100 KiB long.
constexpr std::size_t largest_file = 1024UL * 1024;

struct File {
    std::string name;
    std::string content;
    std::pair<std::int64_t, std::int64_t> written;  // mtime: seconds, nanoseconds
};

bool same_ignoring_case(std::string_view a, std::string_view b) {
    return std::ranges::equal(a, b,
                              [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// Container runtimes spell keys differently ("hostPort", "HostPort"). Null: no such key, or not an object.
const json* find_member(const json& object, std::string_view key) {
    if (!object.is_object()) {
        return nullptr;
    }
    for (const auto& [name, value] : object.items()) {
        if (same_ignoring_case(name, key)) {
            return &value;
        }
    }
    return nullptr;
}

std::string text_member(const json& object, std::string_view key) {
    const auto* const member = find_member(object, key);
    return member != nullptr && member->is_string() ? member->get<std::string>() : std::string();
}

void add_unique(const Address& ip, std::vector<Address>& ips) {
    if (std::ranges::find(ips, ip) == ips.end()) {
        ips.push_back(ip);
    }
}

void add_address(std::string_view text, std::vector<Address>& ips) {
    const auto prefix = parse_prefix(text);
    if (prefix && !prefix->address.is_loopback()) {
        add_unique(prefix->address, ips);
    }
}

std::vector<Address> result_addresses(const json& result) {
    std::vector<Address> ips;
    if (const auto* const list = find_member(result, "ips"); list != nullptr && list->is_array()) {
        for (const auto& entry : *list) {
            add_address(text_member(entry, "address"), ips);
        }
    }
    for (const auto* const key : {"ip4", "ip6"}) {  // CNI 0.2
        if (const auto* const entry = find_member(result, key)) {
            add_address(text_member(*entry, "ip"), ips);
        }
    }
    return ips;
}

// [["K8S_POD_NAMESPACE","default"], …], in no particular order
std::string cni_arg(const json& cache, std::string_view name) {
    const auto* const args = find_member(cache, "cniArgs");
    if (args == nullptr || !args->is_array()) {
        return {};
    }
    for (const auto& pair : *args) {
        if (pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string() &&
            same_ignoring_case(pair[0].get_ref<const std::string&>(), name)) {
            return pair[1].get<std::string>();
        }
    }
    return {};
}

struct NameParts {
    std::string network;
    std::string container_id;
};

bool is_sandbox_id(std::string_view text) {
    return text.size() == 64 && std::ranges::all_of(text, [](unsigned char c) { return std::isxdigit(c) != 0; });
}

// "<network>-<container>-<interface>", where the network's name may hold dashes too, and so may the interface's.
NameParts split_file_name(std::string_view name) {
    for (std::size_t start = name.find('-'); start != std::string_view::npos; start = name.find('-', start + 1)) {
        const auto part = name.substr(start + 1, name.find('-', start + 1) - start - 1);
        if (is_sandbox_id(part)) {
            return {.network = std::string(name.substr(0, start)), .container_id = std::string(part)};
        }
    }
    const auto interface_at = name.rfind('-');
    const auto container_at =
        interface_at == std::string_view::npos || interface_at == 0 ? interface_at : name.rfind('-', interface_at - 1);
    if (container_at == std::string_view::npos || container_at == 0 || container_at == interface_at) {
        return {};
    }
    return {.network = std::string(name.substr(0, container_at)),
            .container_id = std::string(name.substr(container_at + 1, interface_at - container_at - 1))};
}

// Nothing: not a regular file, or gone since the folder was listed.
Result<std::optional<File>> read_file(const std::filesystem::path& path) {
    // O_NONBLOCK: opening a pipe must not wait for its writer.
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!fd) {
        if (errno == ENOENT || errno == ENXIO) {  // ENXIO: a socket
            return std::nullopt;
        }
        return system_error(path.filename().string());
    }
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0) {
        return system_error(path.filename().string());
    }
    if (!S_ISREG(info.st_mode)) {
        return std::nullopt;
    }
    File file{.name = path.filename().string(), .content = {}, .written = {info.st_mtim.tv_sec, info.st_mtim.tv_nsec}};
    std::array<char, 16384> chunk{};
    for (;;) {
        const auto length = ::read(fd.get(), chunk.data(), chunk.size());
        if (length < 0) {
            return system_error(file.name);
        }
        if (length == 0) {
            return file;
        }
        file.content.append(chunk.data(), static_cast<std::size_t>(length));
        if (file.content.size() > largest_file) {
            return failure(fmt::format("{}: larger than {} bytes", file.name, largest_file));
        }
    }
}

// Another interface or network of the same container.
void merge(const Sandbox& from, Sandbox& into) {
    // The network that gave the container its addresses, not the loopback one.
    if (into.ips.empty() && !from.ips.empty()) {
        into.network = from.network;
    }
    for (const auto& ip : from.ips) {
        add_unique(ip, into.ips);
    }
    const auto fill = [](std::string& text, const std::string& other) {
        if (text.empty()) {
            text = other;
        }
    };
    fill(into.pod_namespace, from.pod_namespace);
    fill(into.pod_name, from.pod_name);
    fill(into.pod_uid, from.pod_uid);
}

}  // namespace

Result<Sandbox> parse_cni_result(std::string_view text, std::string_view file_name) {
    const auto content = json::parse(text, nullptr, false);
    if (!content.is_object()) {
        return failure("not a JSON object");
    }
    const bool with_cache_header = text_member(content, "kind").starts_with("cniCacheV");
    const auto* const result = with_cache_header ? find_member(content, "result") : &content;
    const auto from_name = split_file_name(file_name);
    Sandbox sandbox;
    if (with_cache_header) {
        sandbox.container_id = text_member(content, "containerId");
        sandbox.network = text_member(content, "networkName");
        sandbox.pod_namespace = cni_arg(content, "K8S_POD_NAMESPACE");
        sandbox.pod_name = cni_arg(content, "K8S_POD_NAME");
        sandbox.pod_uid = cni_arg(content, "K8S_POD_UID");
    } else if (find_member(content, "cniVersion") == nullptr && find_member(content, "ip4") == nullptr &&
               find_member(content, "ip6") == nullptr && find_member(content, "ips") == nullptr) {
        return failure("neither a cniCacheV1 entry nor a CNI result");
    }
    if (sandbox.container_id.empty()) {
        sandbox.container_id = from_name.container_id;
    }
    if (sandbox.network.empty()) {
        sandbox.network = from_name.network;
    }
    if (sandbox.container_id.empty()) {
        return failure("no container id, neither inside nor in the file's name");
    }
    if (result != nullptr) {
        sandbox.ips = result_addresses(*result);
    }
    return sandbox;
}

CniCache read_cni_cache(const std::filesystem::path& folder) {
    CniCache cache;
    std::error_code error;
    std::vector<File> files;
    std::vector<std::string> problems;
    auto entry = std::filesystem::directory_iterator(folder, error);
    if (error == std::errc::no_such_file_or_directory) {
        return cache;
    }
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        auto file = read_file(entry->path());
        if (!file) {
            problems.push_back(describe(file.error()));
        } else if (auto& content = *file) {
            files.push_back(*std::move(content));
        }
    }
    if (error) {
        cache.status = {.state = SourceState::unreadable,
                        .why = fmt::format("{}: {}", folder.string(), error.message())};
        return cache;
    }
    std::ranges::sort(files, {}, [](const File& file) { return std::tie(file.written, file.name); });
    std::map<std::string, std::size_t> by_id;
    for (const auto& file : files) {
        const auto sandbox = parse_cni_result(file.content, file.name);
        if (!sandbox) {
            problems.push_back(fmt::format("{}: {}", file.name, describe(sandbox.error())));
            continue;
        }
        const auto [known, is_new] = by_id.try_emplace(sandbox->container_id, cache.sandboxes.size());
        if (is_new) {
            cache.sandboxes.push_back(*sandbox);
        } else {
            merge(*sandbox, cache.sandboxes[known->second]);
        }
    }
    cache.complete = problems.empty();
    cache.status.state = problems.empty() ? SourceState::used : SourceState::unreadable;
    if (!problems.empty()) {
        std::ranges::sort(problems);
        cache.status.why = problems.size() == 1 ? fmt::format("{}/{}", folder.string(), problems.front())
                                                : fmt::format("{} files in {}, first {}", problems.size(),
                                                              folder.string(), problems.front());
    }
    return cache;
}

std::uint64_t cni_cache_version(const std::filesystem::path& folder) {
    std::vector<std::string> names;
    std::error_code error;
    auto entry = std::filesystem::directory_iterator(folder, error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        names.push_back(entry->path().filename().string());
    }
    std::ranges::sort(names);  // the order of a folder is not its own
    Fingerprint print;
    print.add(error.value());
    for (const auto& name : names) {
        struct stat info{};
        print.add(name);
        print.add(::stat((folder / name).c_str(), &info) == 0 ? 0 : errno);
        print.add(info.st_ino);
        print.add(info.st_size);
        print.add(info.st_mtim.tv_sec);
        print.add(info.st_mtim.tv_nsec);
        print.add(info.st_ctim.tv_sec);  // of a file made readable only this changes
        print.add(info.st_ctim.tv_nsec);
    }
    return print.value();
}

std::uint64_t cni_folder_time(const std::filesystem::path& folder) {
    struct stat info{};
    if (::stat(folder.c_str(), &info) != 0) {
        return 0;
    }
    return static_cast<std::uint64_t>(info.st_mtim.tv_sec) * 1'000'000'000U +
           static_cast<std::uint64_t>(info.st_mtim.tv_nsec);
}

}  // namespace hptrace
