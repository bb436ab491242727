// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/cni_result.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace hptrace {

namespace {

using nlohmann::json;

// A file's name is no longer, and the names of all objects of Kubernetes are shorter.
constexpr std::size_t longest_name = 255;
constexpr std::size_t most_addresses = 64;

// Container runtimes spell keys differently ("hostPort", "HostPort").
std::string lower_case(std::string_view text) {
    std::string lower(text);
    std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return lower;
}

void add_address(std::string_view text, std::vector<Address>& ips) {
    const auto prefix = parse_prefix(text);
    if (prefix && !prefix->address.is_loopback() && ips.size() < most_addresses &&
        std::ranges::find(ips, prefix->address) == ips.end()) {
        ips.push_back(prefix->address);
    }
}

void set_name(const std::string& text, std::string& name) {
    if (text.size() <= longest_name) {
        name = text;
    }
}

// Picks out of a file what is looked for while it is parsed; nothing else of it is kept.
class Picker : public nlohmann::json_sax<json> {
public:
    struct Found {
        bool is_object = false;
        bool has_result_key = false;  // one that only a CNI result has, at the top
        std::string kind;
        Sandbox sandbox;                  // without its addresses
        std::vector<Address> cached_ips;  // of the result in a cache entry
        std::vector<Address> bare_ips;    // of a result that is all of the file
    };

    [[nodiscard]] Found take() && { return std::move(found_); }

    bool null() override { return no_text(); }
    bool boolean(bool /*value*/) override { return no_text(); }
    bool number_integer(number_integer_t /*value*/) override { return no_text(); }
    bool number_unsigned(number_unsigned_t /*value*/) override { return no_text(); }
    bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return no_text(); }
    bool binary(binary_t& /*value*/) override { return no_text(); }
    bool string(string_t& value) override {
        text(path(), value);
        return true;
    }

    bool start_object(std::size_t /*elements*/) override {
        found_.is_object = found_.is_object || depth_ == 0;
        return enter({});
    }
    bool key(string_t& key) override {
        if (depth_ <= most_depth) {
            // A key that looks like a path is none that is looked for.
            keys_.back() = key.size() > longest_key || key.contains('/') ? "?" : lower_case(key);
            const auto at = path();
            found_.has_result_key =
                found_.has_result_key || at == "cniversion" || at == "ips" || at == "ip4" || at == "ip6";
        }
        return true;
    }
    bool end_object() override { return leave(); }
    bool start_array(std::size_t /*elements*/) override {
        argument_.clear();
        return enter("[]");
    }
    bool end_array() override {
        leave();
        if (argument_.size() == 2 && path() == "cniargs/[]") {
            argument(lower_case(argument_[0]), argument_[1]);
        }
        argument_.clear();
        return true;
    }

    bool parse_error(std::size_t /*position*/, const std::string& /*token*/,
                     const nlohmann::detail::exception& /*error*/) override {
        return false;
    }

private:
    static constexpr std::size_t most_depth = 4;  // "result/ips/[]/address"; below it only the depth is counted
    static constexpr std::size_t longest_key = 32;

    bool enter(std::string_view key) {
        if (++depth_ <= most_depth) {
            keys_.emplace_back(key);
        }
        return true;
    }

    bool leave() {
        if (depth_-- <= most_depth) {
            keys_.pop_back();
        }
        return true;
    }

    // Of the value that comes next; empty: deeper than anything that is looked for.
    [[nodiscard]] std::string path() const {
        return depth_ > most_depth ? std::string() : fmt::format("{}", fmt::join(keys_, "/"));
    }

    bool no_text() {
        text(path(), {});
        return true;
    }

    void text(std::string_view at, const std::string& value) {
        if (at == "kind") {
            found_.kind = value;
        } else if (at == "containerid") {
            set_name(value, found_.sandbox.container_id);
        } else if (at == "networkname") {
            set_name(value, found_.sandbox.network);
        } else if (at == "cniargs/[]/[]") {
            if (argument_.size() <= 2) {  // more than a name and its value is no argument
                argument_.push_back(value);
            }
        } else if (at == "result/ips/[]/address" || at == "result/ip4/ip" || at == "result/ip6/ip") {
            add_address(value, found_.cached_ips);
        } else if (at == "ips/[]/address" || at == "ip4/ip" || at == "ip6/ip") {  // ip4, ip6: CNI 0.2
            add_address(value, found_.bare_ips);
        }
    }

    // ["K8S_POD_NAMESPACE","default"], in no particular order
    void argument(std::string_view name, const std::string& value) {
        if (name == "k8s_pod_namespace") {
            set_name(value, found_.sandbox.pod_namespace);
        } else if (name == "k8s_pod_name") {
            set_name(value, found_.sandbox.pod_name);
        } else if (name == "k8s_pod_uid") {
            set_name(value, found_.sandbox.pod_uid);
        }
    }

    Found found_;
    std::size_t depth_ = 0;
    std::vector<std::string> keys_;  // of each object on the way; "[]" of an array
    std::vector<std::string> argument_;
};

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

}  // namespace

Result<Sandbox> parse_cni_result(std::string_view text, std::string_view file_name, CutOff cut_off) {
    Picker picker;
    const bool whole = json::sax_parse(text, &picker);
    auto found = std::move(picker).take();
    if (!found.is_object || (!whole && cut_off == CutOff::no)) {
        return failure("not a JSON object");
    }
    const bool cache_entry = found.kind.starts_with("cniCacheV");
    if (!cache_entry && !found.has_result_key) {
        return failure("neither a cniCacheV1 entry nor a CNI result");
    }
    auto from_name = split_file_name(file_name);
    auto sandbox = cache_entry ? std::move(found.sandbox) : Sandbox();
    if (sandbox.container_id.empty()) {
        sandbox.container_id = std::move(from_name.container_id);
    }
    if (sandbox.network.empty()) {
        sandbox.network = std::move(from_name.network);
    }
    if (sandbox.container_id.empty()) {
        return failure("no container id, neither inside nor in the file's name");
    }
    sandbox.ips = cache_entry ? std::move(found.cached_ips) : std::move(found.bare_ips);
    return sandbox;
}

}  // namespace hptrace
