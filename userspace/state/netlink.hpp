// SPDX-License-Identifier: GPL-2.0-or-later
// Netlink requests and dumps over libmnl, with every length, sequence number and error code checked.
#pragma once

#include <libmnl/libmnl.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"

namespace hptrace {

using Bytes = std::span<const std::uint8_t>;

// Netlink headers and attributes begin at multiples of four (NLMSG_ALIGN, NLA_ALIGN).
constexpr std::size_t netlink_align(std::size_t length) {
    return (length + 3U) & ~std::size_t{3};
}

// Calls handle(type, payload) for each attribute of `data`; `type` is without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
// False: one of them is shorter than its header or longer than what is left, what stands before it was handled.
template <class Handle>
bool for_each_attribute(Bytes data, Handle handle) {
    while (!data.empty()) {
        nlattr header{};
        if (data.size() < sizeof(header)) {
            return false;
        }
        std::memcpy(&header, data.data(), sizeof(header));
        if (header.nla_len < sizeof(header) || header.nla_len > data.size()) {
            return false;
        }
        handle(static_cast<std::uint16_t>(header.nla_type & NLA_TYPE_MASK),
               data.subspan(sizeof(header), header.nla_len - sizeof(header)));
        data = data.subspan(std::min(netlink_align(header.nla_len), data.size()));
    }
    return true;
}

// The number whose bytes these are, the highest first. `data` must hold as many.
template <std::unsigned_integral T>
T big_endian(Bytes data) {
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) {
        value = static_cast<T>(static_cast<std::uint64_t>(value) << 8U | data[i]);
    }
    return value;
}

// What stands before the first NUL; nothing: there is none.
std::optional<std::string_view> terminated_text(Bytes data);

// One run of netlink attributes; views into the buffer it was parsed from.
class Attributes {
public:
    struct Attribute {
        std::uint16_t type;  // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
        Bytes payload;
    };

    // Every attribute of `data`. Error: one of them is shorter than its header or longer than what is left.
    static Result<Attributes> parse(Bytes data);

    [[nodiscard]] const std::vector<Attribute>& all() const { return all_; }
    // Payload of the first attribute of this type; nothing if there is none.
    [[nodiscard]] std::optional<Bytes> find(std::uint16_t type) const;
    // Attributes inside the first attribute of this type. Error: there is none, or it is malformed.
    [[nodiscard]] Result<Attributes> nested(std::uint16_t type) const;
    // The number as the kernel wrote it, whatever its byte order; nothing if absent or shorter.
    template <std::unsigned_integral T>
    [[nodiscard]] std::optional<T> number(std::uint16_t type) const {
        const auto payload = find(type);
        if (!payload || payload->size() < sizeof(T)) {
            return std::nullopt;
        }
        T value{};
        std::memcpy(&value, payload->data(), sizeof(T));
        return value;
    }
    // A port (big endian) in host byte order.
    [[nodiscard]] std::optional<std::uint16_t> port(std::uint16_t type) const;
    // A string up to its first zero byte.
    [[nodiscard]] std::optional<std::string> text(std::uint16_t type) const;
    // An address; the payload may be longer than the address (union nf_inet_addr).
    [[nodiscard]] std::optional<Address> address(std::uint16_t type, Family family) const;

private:
    std::vector<Attribute> all_;
};

// One received message; valid only while it is being handled.
struct Message {
    const nlmsghdr* header;
    Bytes payload;  // after the netlink header

    // The family header the payload begins with (rtmsg, nfgenmsg, genlmsghdr); null: too short for it.
    template <class Header>
    [[nodiscard]] const Header* family_header() const {
        return payload.size() < sizeof(Header) ? nullptr : reinterpret_cast<const Header*>(payload.data());
    }
    // The attributes after that header. Error: truncated.
    template <class Header>
    [[nodiscard]] Result<Attributes> attributes() const {
        const std::size_t offset = netlink_align(sizeof(Header));
        if (payload.size() < offset) {
            return failure("truncated netlink message");
        }
        return Attributes::parse(payload.subspan(offset));
    }
};

// The attributes of a message, or inside of one, by their type, without an allocation. Of two of the same type the
// first counts; those above `highest` are left out, as the kernel's own parser does (nla_parse).
template <std::uint16_t highest>
class AttributeTable {
public:
    // Nothing: one of them is shorter than its header or longer than what is left.
    static std::optional<AttributeTable> parse(Bytes data) {
        AttributeTable table;
        const bool whole = for_each_attribute(data, [&table](std::uint16_t type, Bytes payload) {
            if (type <= highest && !table.there_[type]) {
                table.payload_[type] = payload;
                table.there_[type] = true;
            }
        });
        return whole ? std::optional(table) : std::nullopt;
    }

    // The payload; nothing if there is none of this type.
    [[nodiscard]] std::optional<Bytes> find(std::uint16_t type) const {
        return type <= highest && there_[type] ? std::optional(payload_[type]) : std::nullopt;
    }
    // A number in network byte order; nothing if absent or of another size.
    template <std::unsigned_integral T>
    [[nodiscard]] std::optional<T> number(std::uint16_t type) const {
        const auto payload = find(type);
        return payload && payload->size() == sizeof(T) ? std::optional(big_endian<T>(*payload)) : std::nullopt;
    }
    // A text up to its NUL; nothing if absent or without one.
    [[nodiscard]] std::optional<std::string_view> text(std::uint16_t type) const {
        const auto payload = find(type);
        return payload ? terminated_text(*payload) : std::nullopt;
    }

private:
    std::array<Bytes, highest + 1> payload_;
    std::bitset<highest + 1> there_;
};

using MessageHandler = std::function<Result<void>(const Message&)>;

// Calls `handle` for each message of a datagram, whoever asked for it. Error: one of them is truncated, or the
// handler's.
Result<void> for_each_message(Bytes datagram, const MessageHandler& handle);

// Walks one datagram: calls `handle` for each message that answers the request `sequence` of socket `portid`.
// True: more datagrams follow; false: the answer is complete. Errors: the kernel's own (with its errno; EINTR if the
// data changed during the dump, NLM_F_DUMP_INTR), truncation, messages of another request, the handler's.
Result<bool> read_messages(Bytes datagram, std::uint32_t sequence, std::uint32_t portid, const MessageHandler& handle);

// A request under construction.
class Request {
public:
    // `flags` are added to NLM_F_REQUEST; without NLM_F_DUMP an acknowledgement ends the answer.
    Request(std::uint16_t type, std::uint16_t flags);

    // Appends the zeroed family header; call it first.
    template <class Header>
    Header& family_header() {
        return *static_cast<Header*>(mnl_nlmsg_put_extra_header(header(), sizeof(Header)));
    }
    nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(buffer_.data()); }

private:
    alignas(nlmsghdr) std::array<char, 1024> buffer_{};
};

// A netlink socket of the network namespace the calling thread is in.
class NetlinkSocket {
public:
    // `protocol`: NETLINK_ROUTE, NETLINK_GENERIC, or NETLINK_NETFILTER, which autoloads nfnetlink: check first that it
    // is present. `what` ("ip_vs") begins the text of every error of this socket.
    static Result<NetlinkSocket> open(int protocol, std::string what);

    // Lets the kernel filter dumps by the request's header (NETLINK_GET_STRICT_CHK); older kernels do not, so callers
    // filter again.
    void ask_for_strict_checks();
    // Sends the request and hands every message of its answer to `handle`. After an error the socket must not be used
    // for another one: the rest of the answer may still be to come.
    Result<void> exchange(Request& request, const MessageHandler& handle);

    // A message that answers the request at this place.
    using AnswerHandler = std::function<Result<void>(std::size_t request, const Message& message)>;
    // The request at this place failed, with an errno or an error of the subsystem's own.
    using RefusalHandler = std::function<Result<void>(std::size_t request, int code)>;
    // Sends all requests (no dumps) in one system call and hands over the answers; of a request that is done without
    // one there is none. Not more than a few hundred at a time: their answers wait in the socket.
    Result<void> exchange_all(std::span<Request> requests, const AnswerHandler& answer, const RefusalHandler& refusal);

    // So many bytes may wait to be received. (The kernel counts its own overhead too, and doubles the number for that.)
    void set_queue(int bytes);
    // What is announced to this multicast group is received from now on, and waits until drain() takes it.
    // NETLINK_NETFILTER loads the group's subsystem (nfnetlink_bind): check first that it is present.
    Result<void> join(unsigned group);
    // Hands every message that was announced so far to `handle`; does not wait for more. ENOBUFS: some were lost.
    Result<void> drain(const MessageHandler& handle);
    // Waits until something is announced. False: nothing was, for that long.
    [[nodiscard]] bool wait(std::chrono::milliseconds limit) const;

private:
    struct Close {
        void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
    };

    NetlinkSocket(mnl_socket* socket, std::string what) : socket_(socket), what_(std::move(what)) {}

    [[nodiscard]] Error explain(Error error) const;
    // Up to two datagrams with one system call; the views are valid until the next call. None: there is none to be had
    // without waiting (MSG_DONTWAIT).
    Result<std::vector<Bytes>> receive(int flags);

    std::unique_ptr<mnl_socket, Close> socket_;
    std::string what_;
    std::uint32_t sequence_ = 0;
    std::vector<std::uint8_t> buffer_;
};

// A message type of a netfilter subsystem (NFNL_SUBSYS_*).
constexpr std::uint16_t nfnl_type(unsigned subsystem, unsigned message) {
    return static_cast<std::uint16_t>((subsystem << 8U) | message);
}

// Calls `read` again, a few times, while it fails because the data changed during the dump (EINTR). It must open its
// own socket: one with an unfinished dump refuses the next.
template <class Read>
auto retry_interrupted(Read read) {
    constexpr int attempts = 5;
    auto result = read();
    for (int i = 1; i < attempts && !result && result.error().code == EINTR; ++i) {
        result = read();
    }
    return result;
}

}  // namespace hptrace
