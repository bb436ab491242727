// SPDX-License-Identifier: GPL-2.0-or-later
#include "names/kube_client.hpp"

#include <curl/curl.h>
#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "state/json_read.hpp"

namespace hptrace {

namespace {

template <auto release>
struct Release {
    template <class T>
    void operator()(T* owned) const {
        static_cast<void>(release(owned));
    }
};
using Easy = std::unique_ptr<CURL, Release<curl_easy_cleanup>>;
using Multi = std::unique_ptr<CURLM, Release<curl_multi_cleanup>>;
using Url = std::unique_ptr<CURLU, Release<curl_url_cleanup>>;
using Text = std::unique_ptr<char, Release<curl_free>>;
using List = std::unique_ptr<curl_slist, Release<curl_slist_free_all>>;

constexpr std::size_t longest_message = 300;
// Of an answer that is no list: what it says is in its first bytes.
constexpr std::size_t largest_refusal = 65'536;

// Where requests go, taken from the configuration once.
struct Target {
    std::string base;      // URL of the server, with the name its certificate must have
    std::string host;      // for the header Host; empty: as in the URL
    std::string redirect;  // CURLOPT_CONNECT_TO; empty: none
};

std::string part_of(CURLU* url, CURLUPart part, unsigned flags = 0) {
    char* text = nullptr;
    return curl_url_get(url, part, &text, flags) == CURLUE_OK ? std::string(Text(text).get()) : std::string();
}

Result<Target> target_of(const KubeConfig& config) {
    const Url url(curl_url());
    const auto bad = [&config](std::string_view why) {
        return failure(fmt::format("server '{}': {}", config.server, why));
    };
    if (!url || curl_url_set(url.get(), CURLUPART_URL, config.server.c_str(), 0) != CURLUE_OK) {
        return bad("not an address");
    }
    if (part_of(url.get(), CURLUPART_SCHEME) != "https") {
        return bad("not https://");
    }
    for (const auto part : {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY, CURLUPART_FRAGMENT}) {
        if (!part_of(url.get(), part).empty()) {
            return bad("more than host, port and path");
        }
    }
    Target target{.base = config.server, .host = {}, .redirect = {}};
    if (const auto& name = config.tls_server_name; !name.empty()) {
        const auto host = part_of(url.get(), CURLUPART_HOST);
        const auto port = part_of(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
        if (curl_url_set(url.get(), CURLUPART_HOST, name.c_str(), 0) != CURLUE_OK) {
            return failure(fmt::format("tls-server-name '{}' is not a name", name));
        }
        target.base = part_of(url.get(), CURLUPART_URL);
        while (target.base.ends_with('/')) {
            target.base.pop_back();
        }
        target.host = fmt::format("{}:{}", host, port);
        target.redirect = fmt::format("{}:{}:{}:{}", name, port, host, port);
    }
    return target;
}

struct Body {
    CURL* easy = nullptr;
    std::string text;
    std::size_t limit = 0;
    bool too_large = false;
    bool no_memory = false;
};

// For libcurl, through which no exception may pass. Any other result than `count` ends the transfer.
std::size_t store(char* data, std::size_t /*one*/, std::size_t count, void* to) {
    auto& body = *static_cast<Body*>(to);
    long status = 0;
    curl_easy_getinfo(body.easy, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200 && count > largest_refusal - std::min(largest_refusal, body.text.size())) {
        return count;  // no more of it
    }
    if (count > body.limit - body.text.size()) {
        body.too_large = true;
        return 0;
    }
    try {
        body.text.append(data, count);
    } catch (const std::exception&) {
        body.no_memory = true;
        return 0;
    }
    return count;
}

// Not for a command that hptrace starts.
curl_socket_t open_socket(void* /*unused*/, curlsocktype /*purpose*/, curl_sockaddr* address) {
    return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

curl_blob blob_of(std::string& text) {
    return {.data = text.data(), .len = text.size(), .flags = CURL_BLOB_NOCOPY};
}

// curl_easy_setopt() with the first error kept.
class Options {
public:
    explicit Options(CURL* easy) : easy_(easy) {}

    template <class Value>
    void set(CURLoption option, Value value) {
        if (const auto error = curl_easy_setopt(easy_, option, value); error_ == CURLE_OK) {
            error_ = error;
        }
    }
    [[nodiscard]] CURLcode error() const { return error_; }

private:
    CURL* easy_;
    CURLcode error_ = CURLE_OK;
};

// What the API says of a refusal: the message of a v1 Status names user, verb and resource.
std::string message_of(const std::string& body) {
    const auto json = nlohmann::json::parse(body, nullptr, false);  // without exceptions
    auto text = text_of(json, "message").value_or("");
    if (text.size() > longest_message) {
        text.resize(longest_message);
        text += "...";
    }
    return text;
}

KubeFailure refusal(int status, const std::string& path, const std::string& body) {
    auto why = fmt::format("{} answers {}", path.substr(0, path.find('?')), status);
    if (status >= 300 && status < 400) {
        why += ": hptrace follows no redirects";
    } else if (status == 401) {
        why += ": the token or client certificate is not accepted";
    } else if (auto message = message_of(body); !message.empty()) {
        why += ": " + message;
    } else if (status == 403) {
        why += ": the right to list them is missing";
    }
    return {.status = status, .why = std::move(why), .too_large = false};
}

}  // namespace

class KubeClient::Transport {
public:
    Transport(KubeConfig config, Limits limits, Target target, Multi multi)
        : config_(std::move(config)), limits_(limits), target_(std::move(target)), multi_(std::move(multi)) {}

    std::expected<std::string, KubeFailure> get(const std::string& path, const std::stop_token& stop) {
        auto credentials = read_credentials(config_);
        if (!credentials) {
            return std::unexpected(KubeFailure{.status = 0, .why = describe(credentials.error()), .too_large = false});
        }
        const Easy easy(curl_easy_init());
        Body body{.easy = easy.get(), .text = {}, .limit = limits_.body};
        std::array<char, CURL_ERROR_SIZE> words{};
        List headers;
        const List redirect(target_.redirect.empty() ? nullptr : curl_slist_append(nullptr, target_.redirect.c_str()));
        const auto add_header = [&headers](const std::string& line) {
            auto* const head = curl_slist_append(headers.get(), line.c_str());
            if (!headers) {
                headers.reset(head);  // which stays the same
            }
        };
        add_header("Accept: application/json");
        if (!credentials->token.empty()) {
            add_header("Authorization: Bearer " + credentials->token);
        }
        if (!target_.host.empty()) {
            add_header("Host: " + target_.host);
        }
        if (!easy) {
            return std::unexpected(KubeFailure{.status = 0, .why = "libcurl has no memory", .too_large = false});
        }
        Options options(easy.get());
        set_transport(options);
        set_tls(options, *credentials);
        options.set(CURLOPT_URL, (target_.base + path).c_str());
        options.set(CURLOPT_HTTPHEADER, headers.get());
        options.set(CURLOPT_CONNECT_TO, redirect.get());
        options.set(CURLOPT_ERRORBUFFER, words.data());
        options.set(CURLOPT_WRITEFUNCTION, &store);
        options.set(CURLOPT_WRITEDATA, &body);
        if (options.error() != CURLE_OK) {
            return std::unexpected(KubeFailure{.status = 0,
                                               .why = fmt::format("libcurl: {}", curl_easy_strerror(options.error())),
                                               .too_large = false});
        }
        const auto result = transfer(easy.get(), stop);
        long status = 0;
        curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
        if (result != CURLE_OK) {
            return std::unexpected(KubeFailure{
                .status = 0, .why = no_answer(easy.get(), result, words.data(), body), .too_large = body.too_large});
        }
        if (status != 200) {
            return std::unexpected(refusal(static_cast<int>(status), path, body.text));
        }
        return std::move(body.text);
    }

private:
    void set_transport(Options& options) const {
        options.set(CURLOPT_NOSIGNAL, 1L);
        options.set(CURLOPT_QUICK_EXIT, 1L);  // does not wait for a resolver that hangs
        options.set(CURLOPT_PROTOCOLS_STR, "https");
        options.set(CURLOPT_HTTP_VERSION, long{CURL_HTTP_VERSION_1_1});
        options.set(CURLOPT_FOLLOWLOCATION, 0L);
        options.set(CURLOPT_PROXY, "");  // the environment's is for other sites
        options.set(CURLOPT_NETRC, long{CURL_NETRC_IGNORED});
        options.set(CURLOPT_ACCEPT_ENCODING, "");  // whatever libcurl can unpack
        options.set(CURLOPT_USERAGENT, "hptrace");
        options.set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(limits_.connect.count()));
        options.set(CURLOPT_TIMEOUT_MS, static_cast<long>(limits_.total.count()));
        options.set(CURLOPT_OPENSOCKETFUNCTION, &open_socket);
    }

    static void set_tls(Options& options, KubeCredentials& credentials) {
        options.set(CURLOPT_SSL_VERIFYPEER, 1L);
        options.set(CURLOPT_SSL_VERIFYHOST, 2L);
        options.set(CURLOPT_SSLVERSION, long{CURL_SSLVERSION_TLSv1_2});
        if (!credentials.ca.empty()) {
            // That authority alone: the system's would be taken as well.
            options.set(CURLOPT_CAINFO, static_cast<char*>(nullptr));
            options.set(CURLOPT_CAPATH, static_cast<char*>(nullptr));
            auto ca = blob_of(credentials.ca);
            options.set(CURLOPT_CAINFO_BLOB, &ca);
        }
        if (!credentials.client_certificate.empty()) {
            auto certificate = blob_of(credentials.client_certificate);
            auto key = blob_of(credentials.client_key);
            options.set(CURLOPT_SSLCERTTYPE, "PEM");
            options.set(CURLOPT_SSLCERT_BLOB, &certificate);
            options.set(CURLOPT_SSLKEYTYPE, "PEM");
            options.set(CURLOPT_SSLKEY_BLOB, &key);
        }
    }

    // CURLE_ABORTED_BY_CALLBACK: it was to stop.
    CURLcode transfer(CURL* easy, const std::stop_token& stop) {
        if (curl_multi_add_handle(multi_.get(), easy) != CURLM_OK) {
            return CURLE_FAILED_INIT;
        }
        CURLcode result = CURLE_ABORTED_BY_CALLBACK;
        {
            const std::stop_callback wake(stop, [this] { static_cast<void>(curl_multi_wakeup(multi_.get())); });
            int running = 1;
            while (running > 0 && !stop.stop_requested()) {
                if (curl_multi_perform(multi_.get(), &running) != CURLM_OK ||
                    (running > 0 && curl_multi_poll(multi_.get(), nullptr, 0, 1000, nullptr) != CURLM_OK)) {
                    result = CURLE_FAILED_INIT;
                    break;
                }
            }
        }
        int left = 0;
        while (const auto* const message = curl_multi_info_read(multi_.get(), &left)) {
            if (message->msg == CURLMSG_DONE && message->easy_handle == easy) {
                result = message->data.result;
            }
        }
        static_cast<void>(curl_multi_remove_handle(multi_.get(), easy));
        return result;
    }

    // Without times, which differ: a failure is told when it is a new one.
    [[nodiscard]] std::string no_answer(CURL* easy, CURLcode code, const char* words, const Body& body) const {
        const auto at = [this](std::string_view why) { return fmt::format("{}: {}", config_.server, why); };
        const auto seconds = [](std::chrono::milliseconds limit) {
            return std::chrono::duration<double>(limit).count();
        };
        if (body.too_large) {
            return at(fmt::format("the answer has more than {} bytes", body.limit));
        }
        if (body.no_memory) {
            return at("no memory for the answer");
        }
        long error = 0;
        curl_off_t connected = 0;
        curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &error);
        curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
        switch (code) {
            case CURLE_ABORTED_BY_CALLBACK:
                return at("stopped");
            case CURLE_OPERATION_TIMEDOUT:
                return at(connected == 0 ? fmt::format("no connection within {} s", seconds(limits_.connect))
                                         : fmt::format("no answer within {} s", seconds(limits_.total)));
            case CURLE_COULDNT_CONNECT:
                return at(error != 0 ? std::strerror(static_cast<int>(error)) : "cannot connect");
            default:
                return at(*words != '\0' ? words : curl_easy_strerror(code));
        }
    }

    KubeConfig config_;
    Limits limits_;
    Target target_;
    Multi multi_;  // keeps the connection from one request to the next
};

Result<KubeClient> KubeClient::make(KubeConfig config, Limits limits) {
    static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (ready != CURLE_OK) {
        return failure(fmt::format("libcurl: {}", curl_easy_strerror(ready)));
    }
    auto target = target_of(config);
    if (!target) {
        return std::unexpected(target.error());
    }
    Multi multi(curl_multi_init());
    if (!multi) {
        return failure("libcurl has no memory");
    }
    return KubeClient(std::make_unique<Transport>(std::move(config), limits, *std::move(target), std::move(multi)));
}

KubeClient::KubeClient(std::unique_ptr<Transport> transport) : transport_(std::move(transport)) {}
KubeClient::KubeClient(KubeClient&&) noexcept = default;
KubeClient& KubeClient::operator=(KubeClient&&) noexcept = default;
KubeClient::~KubeClient() = default;

std::expected<std::string, KubeFailure> KubeClient::get(const std::string& path, const std::stop_token& stop) {
    return transport_->get(path, stop);
}

}  // namespace hptrace
