// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/http_server.hpp"

#include <fmt/format.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <list>
#include <optional>
#include <stop_token>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "base/fd.hpp"
#include "base/signals_blocked.hpp"

namespace hptrace {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

struct StopDaemon {
    void operator()(MHD_Daemon* daemon) const { MHD_stop_daemon(daemon); }
};
using Daemon = std::unique_ptr<MHD_Daemon, StopDaemon>;

struct DestroyResponse {
    void operator()(MHD_Response* response) const { MHD_destroy_response(response); }
};
using Response = std::unique_ptr<MHD_Response, DestroyResponse>;

// What to do about a socket that cannot be bound.
std::string hint_for(int code, std::uint16_t port) {
    switch (code) {
        case EADDRINUSE:
            return fmt::format("another program has this port; `ss -ltnp sport = :{}` shows which", port);
        case EADDRNOTAVAIL:
            return "this network namespace has no such address; `ip addr` shows those that it has";
        case EACCES:
            return "ports below 1024 need CAP_NET_BIND_SERVICE";
        case EAFNOSUPPORT:
            return "this kernel has no such kind of address";
        default:
            return {};
    }
}

struct SocketAddress {
    sockaddr_storage storage{};
    socklen_t size = 0;

    [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
    [[nodiscard]] sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

SocketAddress socket_address(const Endpoint& end) {
    SocketAddress address;
    if (end.ip.family == Family::ipv4) {
        sockaddr_in in{};
        in.sin_family = AF_INET;
        in.sin_port = htons(end.port);
        std::memcpy(&in.sin_addr, end.ip.bytes.data(), sizeof(in.sin_addr));
        std::memcpy(&address.storage, &in, sizeof(in));
        address.size = sizeof(in);
    } else {
        sockaddr_in6 in{};
        in.sin6_family = AF_INET6;
        in.sin6_port = htons(end.port);
        std::memcpy(&in.sin6_addr, end.ip.bytes.data(), sizeof(in.sin6_addr));
        std::memcpy(&address.storage, &in, sizeof(in));
        address.size = sizeof(in);
    }
    return address;
}

// A socket that listens there; never blocks.
Result<Fd> listen_on(const Endpoint& end) {
    const auto refused = [&end](std::string_view what) {
        const auto code = errno;
        return system_error(fmt::format("cannot {} {}", what, to_string(end)), code, hint_for(code, end.port));
    };
    const auto address = socket_address(end);
    Fd socket(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
    if (!socket) {
        return refused("make a socket for");
    }
    // After a restart connections of the one before may still be closing.
    const int on = 1;
    if (::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        ::bind(socket.get(), address.get(), address.size) != 0 || ::listen(socket.get(), SOMAXCONN) != 0) {
        return refused("listen on");
    }
    return socket;
}

HttpAnswer plain(unsigned status, std::string_view text) {
    return {.status = status, .type = "text/plain; charset=utf-8", .body = std::string(text)};
}

// Nothing that a page throws gets into the C of the server.
HttpAnswer answer_of(const HttpPage& page) {
    try {
        return page.make();
    } catch (const std::exception&) {  // no memory
        return plain(MHD_HTTP_INTERNAL_SERVER_ERROR, "no memory for the answer\n");
    }
}

MHD_Result send_answer(MHD_Connection* connection, const HttpAnswer& answer) {
    // The body is copied. libmicrohttpd takes it as void* for the kinds that it would free.
    const Response response(MHD_create_response_from_buffer(answer.body.size(), const_cast<char*>(answer.body.data()),
                                                            MHD_RESPMEM_MUST_COPY));
    if (!response) {
        return MHD_NO;  // closes the connection
    }
    bool sound = MHD_add_response_header(response.get(), MHD_HTTP_HEADER_CONTENT_TYPE, answer.type.c_str()) == MHD_YES;
    // A connection that waits for its next request would only hold a place.
    sound = sound && MHD_add_response_header(response.get(), MHD_HTTP_HEADER_CONNECTION, "close") == MHD_YES;
    if (sound && answer.status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        sound = MHD_add_response_header(response.get(), MHD_HTTP_HEADER_ALLOW, "GET, HEAD") == MHD_YES;
    }
    return sound ? MHD_queue_response(connection, answer.status, response.get()) : MHD_NO;
}

}  // namespace

class HttpServer::Loop {
public:
    Loop(Fd listening, Fd wake, std::uint16_t port, std::vector<HttpPage> pages, Limits limits)
        : listening_(std::move(listening)),
          wake_(std::move(wake)),
          port_(port),
          pages_(std::move(pages)),
          limits_(limits) {}
    Loop(const Loop&) = delete;
    Loop(Loop&&) = delete;
    Loop& operator=(const Loop&) = delete;
    Loop& operator=(Loop&&) = delete;
    ~Loop() {
        thread_.request_stop();
        const std::uint64_t one = 1;
        static_cast<void>(::write(wake_.get(), &one, sizeof(one)));  // a full one wakes as well
        if (thread_.joinable()) {
            thread_.join();
        }
    }

    // False: libmicrohttpd cannot start.
    bool make_daemon() {
        daemon_.reset(MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, nullptr, nullptr, &Loop::asked,
                                       this, MHD_OPTION_NOTIFY_CONNECTION, &Loop::came_or_went, this,  //
                                       MHD_OPTION_CONNECTION_MEMORY_LIMIT, limits_.memory_per_connection,
                                       // Those that are on their way out count there, and not here: its own limit must
                                       // never be the one that holds.
                                       MHD_OPTION_CONNECTION_LIMIT, static_cast<unsigned>(4 * limits_.connections),
                                       MHD_OPTION_END));
        const auto* const epoll = daemon_ ? MHD_get_daemon_info(daemon_.get(), MHD_DAEMON_INFO_EPOLL_FD) : nullptr;
        epoll_ = epoll == nullptr ? -1 : epoll->epoll_fd;
        return epoll_ >= 0;
    }

    void run_in_thread() {
        const SignalsBlocked blocked;
        thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
    }

    [[nodiscard]] std::uint16_t port() const { return port_; }

private:
    struct Guest {
        int socket = -1;
        Clock::time_point came;
        bool asked = false;    // its request's header is complete
        bool is_shut = false;  // for libmicrohttpd to find, and to close
    };

    void run(const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            const auto now = Clock::now();
            const bool rests = now < rest_until_;
            std::array<pollfd, 3> waited{{{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                                          {.fd = epoll_, .events = POLLIN, .revents = 0},
                                          {.fd = rests ? -1 : listening_.get(), .events = POLLIN, .revents = 0}}};
            static_cast<void>(::poll(waited.data(), waited.size(), timeout(now)));
            if ((waited[2].revents & POLLIN) != 0) {
                accept_all();
            }
            shut_late_ones(Clock::now());
            MHD_run(daemon_.get());
        }
    }

    // A descriptor that is missing, here or in the whole system, must not turn the loop into a busy one.
    void accept_all() {
        // As many as there are places: who has just got one is then looked at before it can lose it again.
        for (std::size_t i = 0; i < limits_.connections; ++i) {
            SocketAddress from;
            from.size = sizeof(from.storage);
            const int socket = ::accept4(listening_.get(), from.get(), &from.size, SOCK_CLOEXEC | SOCK_NONBLOCK);
            if (socket < 0) {
                if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
                    rest_until_ = Clock::now() + milliseconds(100);
                }
                return;
            }
            if (guests_.size() - shut_ >= limits_.connections) {
                make_room();
            }
            MHD_add_connection(daemon_.get(), socket, from.get(), from.size);  // which closes it if it cannot
        }
    }

    void make_room() {
        const auto is_here = [](const Guest& guest) { return !guest.is_shut; };
        auto found = std::ranges::find_if(guests_, [&](const Guest& guest) { return is_here(guest) && !guest.asked; });
        if (found == guests_.end()) {
            found = std::ranges::find_if(guests_, is_here);
        }
        if (found != guests_.end()) {
            shut(*found);
        }
    }

    void shut_late_ones(Clock::time_point now) {
        for (auto& guest : guests_) {
            if (!guest.is_shut && now >= deadline(guest)) {
                shut(guest);
            }
        }
    }

    void shut(Guest& guest) {
        // Closed by a reset, which leaves nothing of it in the kernel.
        const linger reset{.l_onoff = 1, .l_linger = 0};
        static_cast<void>(::setsockopt(guest.socket, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)));
        static_cast<void>(::shutdown(guest.socket, SHUT_RDWR));
        guest.is_shut = true;
        ++shut_;
    }

    [[nodiscard]] Clock::time_point deadline(const Guest& guest) const {
        return guest.came + (guest.asked ? limits_.answer : limits_.request);
    }

    // For poll(2): until libmicrohttpd or a deadline wants to be looked at; nobody here, -1.
    [[nodiscard]] int timeout(Clock::time_point now) const {
        std::optional<Clock::time_point> next;
        const auto before = [&next](Clock::time_point time) { next = next ? std::min(*next, time) : time; };
        for (const auto& guest : guests_) {
            if (!guest.is_shut) {
                before(deadline(guest));
            }
        }
        if (now < rest_until_) {
            before(rest_until_);
        }
        if (unsigned long long wanted = 0; MHD_get_timeout(daemon_.get(), &wanted) == MHD_YES) {
            before(now + milliseconds(std::min(wanted, 60'000ULL)));
        }
        if (!next) {
            return -1;
        }
        const auto left = std::chrono::ceil<milliseconds>(*next - now).count();
        return static_cast<int>(std::clamp<milliseconds::rep>(left, 0, 60'000));
    }

    // For libmicrohttpd: a connection that has come, or is closed.
    static void came_or_went(void* self, MHD_Connection* connection, void** context,
                             MHD_ConnectionNotificationCode what) {
        auto& loop = *static_cast<Loop*>(self);
        if (what == MHD_CONNECTION_NOTIFY_STARTED) {
            const auto* const info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
            loop.guests_.push_back({.socket = info == nullptr ? -1 : info->connect_fd, .came = Clock::now()});
            *context = &loop.guests_.back();
            return;
        }
        const auto found = std::ranges::find_if(loop.guests_, [&](const Guest& guest) { return &guest == *context; });
        if (found != loop.guests_.end()) {
            loop.shut_ -= found->is_shut ? 1U : 0U;
            loop.guests_.erase(found);
        }
    }

    // For libmicrohttpd: the header of a request is complete. Answered at once: a body is neither wanted nor read.
    static MHD_Result asked(void* self, MHD_Connection* connection, const char* path, const char* method,
                            const char* /*version*/, const char* /*data*/, std::size_t* /*size*/, void** /*request*/) {
        const auto& loop = *static_cast<const Loop*>(self);
        const auto* const info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        if (info != nullptr && info->socket_context != nullptr) {
            static_cast<Guest*>(info->socket_context)->asked = true;
        }
        const std::string_view verb = method;
        const auto page = std::ranges::find(loop.pages_, std::string_view(path), &HttpPage::path);
        if (page == loop.pages_.end()) {
            return send_answer(connection, plain(MHD_HTTP_NOT_FOUND, loop.not_found_));
        }
        if (verb != MHD_HTTP_METHOD_GET && verb != MHD_HTTP_METHOD_HEAD) {
            return send_answer(connection, plain(MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n"));
        }
        return send_answer(connection, answer_of(*page));
    }

    [[nodiscard]] std::string paths() const {
        std::string text;
        for (const auto& page : pages_) {
            text += page.path + "\n";
        }
        return text;
    }

    Fd listening_;
    Fd wake_;
    std::uint16_t port_;
    std::vector<HttpPage> pages_;
    Limits limits_;
    std::string not_found_ = "there are:\n" + paths();
    std::list<Guest> guests_;  // the oldest first; each stays where it is in memory
    std::size_t shut_ = 0;     // of them
    Clock::time_point rest_until_{};
    Daemon daemon_;  // after guests_, which it tells of the last ones while it ends
    int epoll_ = -1;
    std::jthread thread_;
};

Result<HttpServer> HttpServer::start(const Endpoint& address, std::vector<HttpPage> pages, Limits limits) {
    auto listening = listen_on(address);
    if (!listening) {
        return std::unexpected(listening.error());
    }
    SocketAddress bound;
    bound.size = sizeof(bound.storage);
    if (::getsockname(listening->get(), bound.get(), &bound.size) != 0) {
        return system_error("cannot tell which port it is");
    }
    // The port is at the same place for both families.
    static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
    sockaddr_in in{};
    std::memcpy(&in, &bound.storage, sizeof(in));
    Fd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake) {
        return system_error("cannot make an eventfd");
    }
    auto loop =
        std::make_unique<Loop>(*std::move(listening), std::move(wake), ntohs(in.sin_port), std::move(pages), limits);
    if (!loop->make_daemon()) {
        return failure("libmicrohttpd cannot start", "it needs memory, and an epoll descriptor");
    }
    try {
        loop->run_in_thread();
    } catch (const std::system_error& error) {
        return system_error("cannot start a thread", error.code().value());
    }
    return HttpServer(std::move(loop));
}

HttpServer::HttpServer(std::unique_ptr<Loop> loop) : loop_(std::move(loop)) {}
HttpServer::HttpServer(HttpServer&&) noexcept = default;
HttpServer& HttpServer::operator=(HttpServer&&) noexcept = default;
HttpServer::~HttpServer() = default;

std::uint16_t HttpServer::port() const {
    return loop_->port();
}

}  // namespace hptrace
