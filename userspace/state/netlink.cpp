// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/netlink.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace hptrace {

namespace {

// The kernel fills as much of a datagram as the receiver has room for, at most 32 KiB (netlink_dump, max_recvmsg_len).
constexpr std::size_t receive_size = 64UL * 1024;
// A short dump comes as two datagrams: what was asked for, and that it is all.
constexpr std::size_t receive_count = 2;

// Errno of an NLMSG_ERROR or NLMSG_DONE message, positive; 0: success; nothing: too short to hold one. The kernel's are
// negative, ipset's own go beyond errno's; another number is an error all the same.
std::optional<int> status_of(const Message& message) {
    std::int32_t status = 0;
    if (message.payload.size() < sizeof(status)) {
        return std::nullopt;
    }
    std::memcpy(&status, message.payload.data(), sizeof(status));
    return status > 0 || status == std::numeric_limits<std::int32_t>::min() ? EPROTO : -status;
}

// The first message of `datagram`, which is shortened by it.
Result<Message> next_message(Bytes& datagram) {
    const auto* header = reinterpret_cast<const nlmsghdr*>(datagram.data());
    if (datagram.size() < sizeof(*header) || header->nlmsg_len < sizeof(*header) ||
        header->nlmsg_len > datagram.size()) {
        return failure("truncated netlink message");
    }
    const Message message{.header = header,
                          .payload = datagram.subspan(sizeof(*header), header->nlmsg_len - sizeof(*header))};
    datagram = datagram.subspan(std::min(netlink_align(header->nlmsg_len), datagram.size()));
    return message;
}

// What one message means for the whole answer: true if more is to come.
Result<bool> read_message(const Message& message, const MessageHandler& handle) {
    if ((message.header->nlmsg_flags & NLM_F_DUMP_INTR) != 0) {
        return system_error("changed while being read", EINTR);
    }
    switch (message.header->nlmsg_type) {
        case NLMSG_NOOP:
            return true;
        case NLMSG_OVERRUN:
            return system_error("netlink data lost", ENOBUFS);
        case NLMSG_ERROR: {
            const auto status = status_of(message);
            if (!status) {
                return failure("truncated netlink error message");
            }
            if (*status != 0) {
                return system_error("refused by the kernel", *status);
            }
            return false;
        }
        case NLMSG_DONE: {
            // A dump that failed half way reports it here (netlink_dump_done).
            const auto status = status_of(message).value_or(0);
            if (status > 0) {
                return system_error("dump failed", status);
            }
            return false;
        }
        default:
            if (const auto handled = handle(message); !handled) {
                return std::unexpected(handled.error());
            }
            return true;
    }
}

}  // namespace

std::optional<std::string_view> terminated_text(Bytes data) {
    const auto end = std::ranges::find(data, std::uint8_t{0});
    return end == data.end() ? std::nullopt
                             : std::optional(std::string_view(reinterpret_cast<const char*>(data.data()),
                                                              static_cast<std::size_t>(end - data.begin())));
}

Result<Attributes> Attributes::parse(Bytes data) {
    Attributes attributes;
    const bool whole = for_each_attribute(data, [&attributes](std::uint16_t type, Bytes payload) {
        attributes.all_.push_back({.type = type, .payload = payload});
    });
    if (!whole) {
        return failure("truncated netlink attribute");
    }
    return attributes;
}

std::optional<Bytes> Attributes::find(std::uint16_t type) const {
    const auto found = std::ranges::find(all_, type, &Attribute::type);
    return found == all_.end() ? std::nullopt : std::optional(found->payload);
}

Result<Attributes> Attributes::nested(std::uint16_t type) const {
    const auto payload = find(type);
    if (!payload) {
        return failure(fmt::format("netlink attribute {} missing", type));
    }
    return parse(*payload);
}

std::optional<std::uint16_t> Attributes::port(std::uint16_t type) const {
    return number<std::uint16_t>(type).transform([](auto value) { return ntohs(value); });
}

std::optional<std::string> Attributes::text(std::uint16_t type) const {
    return find(type).transform(
        [](Bytes payload) { return std::string(payload.begin(), std::ranges::find(payload, std::uint8_t{0})); });
}

std::optional<Address> Attributes::address(std::uint16_t type, Family family) const {
    const auto payload = find(type);
    if (!payload || payload->size() < Address{.family = family}.size()) {
        return std::nullopt;
    }
    return make_address(family, *payload);
}

Result<void> for_each_message(Bytes datagram, const MessageHandler& handle) {
    while (!datagram.empty()) {
        const auto message = next_message(datagram);
        if (!message) {
            return std::unexpected(message.error());
        }
        if (const auto handled = handle(*message); !handled) {
            return handled;
        }
    }
    return {};
}

Result<bool> read_messages(Bytes datagram, std::uint32_t sequence, std::uint32_t portid, const MessageHandler& handle) {
    while (!datagram.empty()) {
        const auto message = next_message(datagram);
        if (!message) {
            return std::unexpected(message.error());
        }
        if (message->header->nlmsg_seq != sequence || message->header->nlmsg_pid != portid) {
            return failure("netlink message that answers another request");
        }
        const auto more = read_message(*message, handle);
        if (!more || !*more) {
            return more;
        }
    }
    return true;
}

Request::Request(std::uint16_t type, std::uint16_t flags) {
    auto* const message = mnl_nlmsg_put_header(buffer_.data());
    message->nlmsg_type = type;
    message->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    if ((flags & NLM_F_DUMP) != NLM_F_DUMP) {
        message->nlmsg_flags |= NLM_F_ACK;
    }
}

Result<NetlinkSocket> NetlinkSocket::open(int protocol, std::string what) {
    NetlinkSocket socket(mnl_socket_open2(protocol, SOCK_CLOEXEC), std::move(what));
    if (!socket.socket_) {
        return system_error(socket.what_ + ": cannot open a netlink socket");
    }
    if (mnl_socket_bind(socket.socket_.get(), 0, MNL_SOCKET_AUTOPID) < 0) {
        return system_error(socket.what_ + ": cannot bind a netlink socket");
    }
    socket.buffer_.resize(receive_size * receive_count);
    return socket;
}

void NetlinkSocket::ask_for_strict_checks() {
    int on = 1;
    // Only saves work: the answer is filtered again by whoever asked.
    static_cast<void>(mnl_socket_setsockopt(socket_.get(), NETLINK_GET_STRICT_CHK, &on, sizeof(on)));
}

Error NetlinkSocket::explain(Error error) const {
    error.what = fmt::format("{}: {}", what_, error.what);
    if ((error.code == EPERM || error.code == EACCES) && error.hint.empty()) {
        error.hint = "needs root, or CAP_NET_ADMIN in the network namespace's user namespace";
    }
    return error;
}

Result<void> NetlinkSocket::exchange(Request& request, const MessageHandler& handle) {
    auto* const header = request.header();
    header->nlmsg_seq = ++sequence_;
    if (mnl_socket_sendto(socket_.get(), header, header->nlmsg_len) < 0) {
        return std::unexpected(explain({.what = "cannot send a netlink request", .code = errno, .hint = {}}));
    }
    const auto portid = mnl_socket_get_portid(socket_.get());
    for (;;) {
        const auto datagrams = receive(MSG_WAITFORONE);
        if (!datagrams) {
            return std::unexpected(datagrams.error());
        }
        for (const auto datagram : *datagrams) {
            const auto more = read_messages(datagram, sequence_, portid, handle);
            if (!more) {
                return std::unexpected(explain(more.error()));
            }
            if (!*more) {
                return {};
            }
        }
    }
}

Result<void> NetlinkSocket::exchange_all(std::span<Request> requests, const AnswerHandler& answer,
                                         const RefusalHandler& refusal) {
    if (requests.empty()) {
        return {};
    }
    const auto first = sequence_ + 1;
    std::vector<std::uint8_t> all;
    for (auto& request : requests) {
        auto* const header = request.header();
        header->nlmsg_seq = ++sequence_;
        if (header != requests.back().header()) {  // the kernel works through them in order: the last one's will do
            header->nlmsg_flags &= static_cast<std::uint16_t>(~NLM_F_ACK);
        }
        const auto bytes = Bytes(reinterpret_cast<const std::uint8_t*>(header), header->nlmsg_len);
        all.insert(all.end(), bytes.begin(), bytes.end());
        all.resize(netlink_align(all.size()));
    }
    if (mnl_socket_sendto(socket_.get(), all.data(), all.size()) < 0) {
        return std::unexpected(explain({.what = "cannot send netlink requests", .code = errno, .hint = {}}));
    }
    bool more = true;
    const auto handle = [&](const Message& message) -> Result<void> {
        const std::size_t place = message.header->nlmsg_seq - first;
        if (place >= requests.size()) {
            return failure("netlink message that answers another request");
        }
        if (message.header->nlmsg_type != NLMSG_ERROR) {
            return answer(place, message);
        }
        std::int32_t status = 0;
        if (message.payload.size() < sizeof(status)) {
            return failure("truncated netlink error message");
        }
        std::memcpy(&status, message.payload.data(), sizeof(status));
        more = place + 1 != requests.size();
        if (status == 0) {
            return {};
        }
        // A subsystem may have errors of its own beyond errno's, but they are negative like those.
        return refusal(place, status > 0 || status == INT32_MIN ? EPROTO : -status);
    };
    while (more) {
        const auto received = mnl_socket_recvfrom(socket_.get(), buffer_.data(), buffer_.size());
        if (received < 0 && errno == EINTR) {
            continue;
        }
        if (received <= 0) {
            return std::unexpected(
                explain({.what = "cannot receive a netlink answer", .code = received < 0 ? errno : 0, .hint = {}}));
        }
        Bytes datagram = Bytes(buffer_).first(static_cast<std::size_t>(received));
        while (more && !datagram.empty()) {
            const auto message = next_message(datagram);
            if (!message) {
                return std::unexpected(explain(message.error()));
            }
            if (const auto handled = handle(*message); !handled) {
                return std::unexpected(explain(handled.error()));
            }
        }
    }
    return {};
}

Result<std::vector<Bytes>> NetlinkSocket::receive(int flags) {
    std::array<iovec, receive_count> rooms{};
    std::array<sockaddr_nl, receive_count> senders{};
    std::array<mmsghdr, receive_count> received{};
    for (std::size_t i = 0; i < receive_count; ++i) {
        rooms.at(i) = {.iov_base = buffer_.data() + i * receive_size, .iov_len = receive_size};
        auto& message = received.at(i).msg_hdr;
        message.msg_name = &senders.at(i);
        message.msg_namelen = sizeof(sockaddr_nl);
        message.msg_iov = &rooms.at(i);
        message.msg_iovlen = 1;
    }
    int count = -1;
    do {
        count = recvmmsg(mnl_socket_get_fd(socket_.get()), received.data(), receive_count, flags, nullptr);
    } while (count < 0 && errno == EINTR);
    if (count < 0) {
        if (errno == EAGAIN && (flags & MSG_DONTWAIT) != 0) {
            return std::vector<Bytes>{};
        }
        return std::unexpected(explain({.what = "cannot receive a netlink answer", .code = errno, .hint = {}}));
    }
    std::vector<Bytes> datagrams;
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
        const auto& [header, length] = received.at(i);
        if (length == 0 || (header.msg_flags & MSG_TRUNC) != 0) {
            return std::unexpected(explain({.what = "empty or truncated netlink answer", .code = 0, .hint = {}}));
        }
        if (header.msg_namelen != sizeof(sockaddr_nl) || senders.at(i).nl_pid != 0) {
            continue;  // another process may write to the socket; only the kernel is believed
        }
        datagrams.push_back(Bytes(buffer_).subspan(i * receive_size, length));
    }
    return datagrams;
}

void NetlinkSocket::set_queue(int bytes) {
    const int fd = mnl_socket_get_fd(socket_.get());
    // Beyond the system's limit (net.core.rmem_max) only with CAP_NET_ADMIN; a shorter queue overflows sooner, which is
    // noticed.
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0) {
        static_cast<void>(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)));
    }
}

Result<void> NetlinkSocket::join(unsigned group) {
    if (mnl_socket_setsockopt(socket_.get(), NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0) {
        return std::unexpected(explain({.what = "cannot join a netlink group", .code = errno, .hint = {}}));
    }
    return {};
}

Result<void> NetlinkSocket::drain(const MessageHandler& handle) {
    for (;;) {
        const auto datagrams = receive(MSG_DONTWAIT);
        if (!datagrams) {
            return std::unexpected(datagrams.error());
        }
        if (datagrams->empty()) {
            return {};
        }
        for (const auto datagram : *datagrams) {
            if (const auto handled = for_each_message(datagram, handle); !handled) {
                return std::unexpected(explain(handled.error()));
            }
        }
    }
}

bool NetlinkSocket::wait(std::chrono::milliseconds limit) const {
    pollfd ready{.fd = mnl_socket_get_fd(socket_.get()), .events = POLLIN, .revents = 0};
    return poll(&ready, 1, static_cast<int>(limit.count())) > 0;
}

}  // namespace hptrace
