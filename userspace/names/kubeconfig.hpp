// SPDX-License-Identifier: GPL-2.0-or-later
// Where the Kubernetes API is and how hptrace proves who it is there.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace hptrace {

// A file that may be renewed while hptrace runs, or the content itself; both empty: neither was given.
struct KubeSecret {
    std::filesystem::path file;
    std::string data;

    [[nodiscard]] bool empty() const { return file.empty() && data.empty(); }
};

struct KubeConfig {
    std::string server;           // "https://10.96.0.1:443": no slash at the end
    bool in_cluster = false;      // the server is the address of the Service default/kubernetes
    std::string tls_server_name;  // whom the server's certificate must be for; empty: the server in the URL
    KubeSecret ca;                // empty: the system's authorities
    KubeSecret client_certificate;
    KubeSecret client_key;
    KubeSecret token;
};

// The secrets of a KubeConfig as they are now; empty: not given.
struct KubeCredentials {
    std::string ca;
    std::string client_certificate;
    std::string client_key;
    std::string token;
};

// `place`: a kubeconfig file, or "in-cluster": the service account of the pod hptrace runs in. Error: one line that
// says what is missing or not supported.
Result<KubeConfig> read_kubeconfig(const std::string& place);

// The current context of a kubeconfig (client-go's clientcmd/api/v1). Relative paths are relative to `folder`. Error:
// it is broken, or wants what hptrace does not do: run a program to log in, passwords, unverified TLS.
Result<KubeConfig> parse_kubeconfig(const std::string& yaml, const std::filesystem::path& folder);

// What kubelet gives a pod: token and ca.crt in `folder`, the Service's address in KUBERNETES_SERVICE_HOST and _PORT.
Result<KubeConfig> in_cluster_config(const std::filesystem::path& folder, const std::string& host,
                                     const std::string& port);

// Reads the files anew: tokens and client certificates are rotated. Error: one cannot be read, or is empty.
Result<KubeCredentials> read_credentials(const KubeConfig& config);

}  // namespace hptrace
