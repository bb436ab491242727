// SPDX-License-Identifier: GPL-2.0-or-later
#include "names/kubeconfig.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <exception>
#include <optional>
#include <utility>

#include "base/address.hpp"
#include "base/base64.hpp"
#include "base/file.hpp"
#include "base/number.hpp"
#include "names/yaml_read.hpp"

namespace hptrace {

namespace {

constexpr std::size_t largest_file = 1U << 20U;
constexpr std::size_t longest_address = 1'024;  // a DNS name has 253, a port 5; and there may be a path

Result<std::string> read_small_file(const std::filesystem::path& path) {
    auto text = read_file(path, largest_file);
    if (!text) {
        const auto& error = text.error();
        return error.code != 0 ? system_error(fmt::format("cannot read {}", path.string()), error.code)
                               : failure(fmt::format("{}: {}", path.string(), describe(error)));
    }
    if (text->empty()) {
        return failure(fmt::format("{} is empty", path.string()));
    }
    return text;
}

// What follows from the shape of a kubeconfig is an exception here, and an Error in parse_kubeconfig().
struct Refused {
    std::string why;
};

// A value in a message: its beginning, if it is a long one.
std::string in_quotes(std::string_view value) {
    constexpr std::size_t longest = 100;
    return value.size() <= longest ? fmt::format("'{}'", value) : fmt::format("'{}...'", value.substr(0, longest));
}

std::string text_at(const YAML::Node& map, const char* key) {
    const auto value = map[key];
    if (!value || value.IsNull()) {
        return {};
    }
    if (!value.IsScalar()) {
        throw Refused{fmt::format("{} is not a text", key)};
    }
    return value.Scalar();
}

// The entry of a list of {name: ..., <kind>: {...}} with this name.
YAML::Node named(const YAML::Node& root, const char* list, const char* kind, const std::string& name) {
    for (const auto& entry : root[list]) {
        if (entry.IsMap() && text_at(entry, "name") == name) {
            const auto content = entry[kind];
            if (!content || !content.IsMap()) {
                throw Refused{fmt::format("{} {} has no content", kind, in_quotes(name))};
            }
            return content;
        }
    }
    throw Refused{fmt::format("there is no {} {}", kind, in_quotes(name))};
}

void refuse(const YAML::Node& map, const char* key, std::string_view why) {
    const auto value = map[key];
    if (value && !value.IsNull() && !(value.IsScalar() && (value.Scalar().empty() || value.Scalar() == "false"))) {
        throw Refused{fmt::format("{}: {}", key, why)};
    }
}

std::string decoded(const YAML::Node& map, const char* key) {
    auto bytes = decode_base64(text_at(map, key));
    if (!bytes) {
        throw Refused{fmt::format("{} is not base64", key)};
    }
    return *std::move(bytes);
}

// `data` wins over `file`, as in client-go.
KubeSecret secret(const YAML::Node& map, const char* file, const char* data, const std::filesystem::path& folder) {
    KubeSecret result{.file = {}, .data = decoded(map, data)};
    if (const auto path = text_at(map, file); result.data.empty() && !path.empty()) {
        result.file = folder / path;
    }
    return result;
}

void read_cluster(const YAML::Node& cluster, const std::filesystem::path& folder, KubeConfig& config) {
    refuse(cluster, "insecure-skip-tls-verify", "hptrace does not talk to an API it cannot verify");
    refuse(cluster, "proxy-url", "hptrace asks the API directly only");
    config.server = text_at(cluster, "server");
    while (config.server.ends_with('/')) {
        config.server.pop_back();
    }
    if (!config.server.starts_with("https://")) {
        throw Refused{fmt::format("server {} is not https://", in_quotes(config.server))};
    }
    config.tls_server_name = text_at(cluster, "tls-server-name");
    if (config.server.size() > longest_address || config.tls_server_name.size() > longest_address) {
        throw Refused{fmt::format("server and tls-server-name may have {} characters at most", longest_address)};
    }
    config.ca = secret(cluster, "certificate-authority", "certificate-authority-data", folder);
}

void read_user(const YAML::Node& user, const std::filesystem::path& folder, KubeConfig& config) {
    constexpr auto no_programs = "hptrace runs no program to log in; use a token or a client certificate";
    refuse(user, "exec", no_programs);
    refuse(user, "auth-provider", no_programs);
    refuse(user, "username", "the API takes no passwords any more; use a token or a client certificate");
    refuse(user, "as", "hptrace acts for nobody else");
    config.client_certificate = secret(user, "client-certificate", "client-certificate-data", folder);
    config.client_key = secret(user, "client-key", "client-key-data", folder);
    if (config.client_certificate.empty() != config.client_key.empty()) {
        throw Refused{"a client certificate needs its key, and a key its certificate"};
    }
    if (const auto file = text_at(user, "tokenFile"); !file.empty()) {  // it wins over `token`, as in client-go
        config.token.file = folder / file;
    } else {
        config.token.data = text_at(user, "token");
    }
}

Result<std::string> read_secret(const KubeSecret& secret) {
    if (secret.file.empty()) {
        return secret.data;
    }
    return read_small_file(secret.file);
}

// It becomes a line of the request.
Result<std::string> token_of(const KubeSecret& secret) {
    auto text = read_secret(secret);
    if (!text) {
        return text;
    }
    const auto is_visible = [](char c) { return c > ' ' && c < '\x7f'; };
    while (!text->empty() && !is_visible(text->back())) {
        text->pop_back();
    }
    if (!std::ranges::all_of(*text, is_visible)) {
        return failure("the token holds blanks or control characters");
    }
    if (text->empty() && !secret.empty()) {
        return failure("the token is empty");
    }
    return text;
}

}  // namespace

Result<KubeConfig> parse_kubeconfig(const std::string& yaml, const std::filesystem::path& folder) {
    const auto parsed = parse_yaml(yaml);
    if (!parsed) {
        return std::unexpected(parsed.error());
    }
    if (!parsed->IsMap()) {
        return failure("not a kubeconfig");
    }
    try {
        const auto& root = *parsed;
        const auto context_name = text_at(root, "current-context");
        if (context_name.empty()) {
            return failure("it has no current-context");
        }
        const auto context = named(root, "contexts", "context", context_name);
        KubeConfig config;
        read_cluster(named(root, "clusters", "cluster", text_at(context, "cluster")), folder, config);
        if (const auto user = text_at(context, "user"); !user.empty()) {
            read_user(named(root, "users", "user", user), folder, config);
        }
        return config;
    } catch (const Refused& refused) {
        return failure(refused.why);
    } catch (const std::exception& error) {  // of the library: a node that is not of the kind it was taken for
        return failure(fmt::format("not a kubeconfig: {}", error.what()));
    }
}

Result<KubeConfig> in_cluster_config(const std::filesystem::path& folder, const std::string& host,
                                     const std::string& port) {
    if (host.empty() || port.empty()) {
        return failure("not in a pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set");
    }
    if (!parse_number<std::uint16_t>(port)) {
        return failure(fmt::format("KUBERNETES_SERVICE_PORT '{}' is not a port", port));
    }
    const auto address = parse_address(host);
    const bool brackets = address && address->family == Family::ipv6;
    KubeConfig config;
    config.server = brackets ? fmt::format("https://[{}]:{}", host, port) : fmt::format("https://{}:{}", host, port);
    config.in_cluster = true;
    config.ca.file = folder / "ca.crt";
    config.token.file = folder / "token";
    return config;
}

Result<KubeConfig> read_kubeconfig(const std::string& place) {
    Result<KubeConfig> config;
    if (place == "in-cluster") {
        const auto variable = [](const char* name) {
            const char* const value = std::getenv(name);
            return std::string(value == nullptr ? "" : value);
        };
        config = in_cluster_config("/var/run/secrets/kubernetes.io/serviceaccount", variable("KUBERNETES_SERVICE_HOST"),
                                   variable("KUBERNETES_SERVICE_PORT"));
    } else {
        const auto text = read_small_file(place);
        if (!text) {
            return std::unexpected(text.error());
        }
        std::error_code error;
        const auto absolute = std::filesystem::absolute(place, error);
        config = parse_kubeconfig(*text, (error ? std::filesystem::path(place) : absolute).parent_path());
    }
    if (!config) {
        return failure(fmt::format("kubeconfig {}: {}", place, describe(config.error())));
    }
    // What cannot be read now is an error of the command line; what cannot be read later on is one of the API.
    if (const auto credentials = read_credentials(*config); !credentials) {
        return failure(fmt::format("kubeconfig {}: {}", place, describe(credentials.error())));
    }
    return config;
}

Result<KubeCredentials> read_credentials(const KubeConfig& config) {
    KubeCredentials credentials;
    for (const auto& [from, to] : {std::pair(&config.ca, &credentials.ca),
                                   std::pair(&config.client_certificate, &credentials.client_certificate),
                                   std::pair(&config.client_key, &credentials.client_key)}) {
        auto text = read_secret(*from);
        if (!text) {
            return std::unexpected(text.error());
        }
        *to = *std::move(text);
    }
    auto token = token_of(config.token);
    if (!token) {
        return std::unexpected(token.error());
    }
    credentials.token = *std::move(token);
    return credentials;
}

}  // namespace hptrace
