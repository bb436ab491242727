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
#include <exception>
#include <list>
#include <new>
#include <optional>
#include <stop_token>
#include <string_view>
#include <system_error>
#include <thread>
#include <unordered_map>
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

// Whom a connection counts for: the address, of IPv6 the network of 64 bits, all of which one machine can have.
Address client_of(const sockaddr* from) {
    if (from == nullptr) {
        return {};
    }
    if (from->sa_family == AF_INET) {
        sockaddr_in in{};
        std::memcpy(&in, from, sizeof(in));
        Address client;
        std::memcpy(client.bytes.data(), &in.sin_addr, sizeof(in.sin_addr));
        return client;
    }
    sockaddr_in6 in{};
    std::memcpy(&in, from, sizeof(in));
    Address client;
    // As the other ones: IPv4 that came to [::].
    if (IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)) {
        std::memcpy(client.bytes.data(), &in.sin6_addr.s6_addr[12], 4);
        return client;
    }
    client.family = Family::ipv6;
    std::memcpy(client.bytes.data(), &in.sin6_addr, 8);
    return client;
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
        Address client;
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
        // Fewer than there are places: who has just got one is looked at before it can lose it again.
        for (std::size_t i = 0; i < std::max<std::size_t>(1, limits_.connections / 4); ++i) {
            SocketAddress from;
            from.size = sizeof(from.storage);
            const int socket = ::accept4(listening_.get(), from.get(), &from.size, SOCK_CLOEXEC | SOCK_NONBLOCK);
            if (socket < 0) {
                if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
                    rest_until_ = Clock::now() + milliseconds(100);
                }
                return;
            }
            if (taken_ >= limits_.connections) {
                make_room();
            }
            MHD_add_connection(daemon_.get(), socket, from.get(), from.size);  // which closes it if it cannot
        }
    }

    // The place of the oldest one of the client that holds the most of them; rather one that has not asked.
    void make_room() {
        Guest* found = nullptr;
        std::pair<std::size_t, bool> most;
        for (auto& guest : guests_) {
            if (guest.is_shut) {
                continue;
            }
            if (const auto rank = std::pair(held_.at(guest.client), !guest.asked); found == nullptr || rank > most) {
                found = &guest;
                most = rank;
            }
        }
        if (found != nullptr) {
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
        leave(guest);
        guest.is_shut = true;
    }

    // Its place is free.
    void leave(const Guest& guest) {
        if (guest.is_shut) {
            return;
        }
        --taken_;
        if (const auto held = held_.find(guest.client); --held->second == 0) {
            held_.erase(held);
        }
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

    // For libmicrohttpd, through whose C no exception may pass: a connection that has come, or is closed.
    static void came_or_went(void* self, MHD_Connection* connection, void** context,
                             MHD_ConnectionNotificationCode what) {
        auto& loop = *static_cast<Loop*>(self);
        if (what == MHD_CONNECTION_NOTIFY_STARTED) {
            *context = loop.take_in(connection);
            return;
        }
        const auto found = std::ranges::find_if(loop.guests_, [&](const Guest& guest) { return &guest == *context; });
        if (found != loop.guests_.end()) {
            loop.leave(*found);
            loop.guests_.erase(found);
        }
    }

    // Null, and the connection is shut: no memory to keep it in mind.
    Guest* take_in(MHD_Connection* connection) {
        const auto* const socket = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        const auto* const from = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
        const Guest guest{.socket = socket == nullptr ? -1 : socket->connect_fd,
                          .client = client_of(from == nullptr ? nullptr : from->client_addr),
                          .came = Clock::now()};
        try {
            const auto held = held_.try_emplace(guest.client, 0).first;
            guests_.push_back(guest);
            ++held->second;
            ++taken_;
            return &guests_.back();
        } catch (const std::bad_alloc&) {
            static_cast<void>(::shutdown(guest.socket, SHUT_RDWR));
            return nullptr;
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
        try {
            return send_answer(connection, loop.answer_to(path, method));
        } catch (const std::exception&) {  // of a page, or no memory: the next request may be answered again
            return MHD_NO;
        }
    }

    [[nodiscard]] HttpAnswer answer_to(std::string_view path, std::string_view method) const {
        const auto page = std::ranges::find(pages_, path, &HttpPage::path);
        if (page == pages_.end()) {
            return plain(MHD_HTTP_NOT_FOUND, not_found_);
        }
        if (method != MHD_HTTP_METHOD_GET && method != MHD_HTTP_METHOD_HEAD) {
            return plain(MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        }
        return page->make();
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
    std::list<Guest> guests_;                        // the oldest first; each stays where it is in memory
    std::size_t taken_ = 0;                          // places: by those that are not shut
    std::unordered_map<Address, std::size_t> held_;  // of these, by client
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
