// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstddef>
#include <expected>
#include <memory>
#include <stop_token>
#include <string>

#include "base/error.hpp"
#include "names/kubeconfig.hpp"

namespace hptrace {

// Why a request has no good answer, one line; the same failure has the same words. status: HTTP's, 0: no answer from
// what is proven to be the API.
struct KubeFailure {
    int status = 0;
    std::string why;
    bool too_large = false;  // the answer has more bytes than Limits::body
};

// GET requests to the Kubernetes API by libcurl: TLS verified, HTTP/1.1, no redirects, no proxy, no cookies.
class KubeClient {
public:
    struct Limits {
        std::chrono::milliseconds connect{5000};  // with the TLS handshake
        std::chrono::milliseconds total{30000};
        std::chrono::milliseconds listing{300000};  // all requests for one look at the cluster
        std::size_t body = 32U << 20U;              // bytes of an answer, unpacked
    };

    // Error: the server's address is not one, or libcurl lacks something.
    static Result<KubeClient> make(KubeConfig config, Limits limits);
    KubeClient(KubeClient&&) noexcept;
    KubeClient& operator=(KubeClient&&) noexcept;
    KubeClient(const KubeClient&) = delete;
    KubeClient& operator=(const KubeClient&) = delete;
    ~KubeClient();

    // The body of an answer 200. `path`: with its query, after the server's. Credentials are read anew. Returns at once
    // when `stop` is requested. One thread at a time.
    std::expected<std::string, KubeFailure> get(const std::string& path, const std::stop_token& stop);

private:
    class Transport;
    explicit KubeClient(std::unique_ptr<Transport> transport);
    std::unique_ptr<Transport> transport_;
};

}  // namespace hptrace
