// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/conntrack_dump.hpp"

#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include <array>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include "base/clock.hpp"
#include "base/presence.hpp"
#include "state/conntrack.hpp"
#include "state/netlink.hpp"
#include "state/netns.hpp"

namespace hptrace {

namespace {

using Piece = Result<std::optional<std::vector<Connection>>>;

struct CloseSocket {
    void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};

// A socket of its own, for it reads an answer datagram by datagram: the kernel goes on with a dump when it is read on.
class NetlinkSource : public ConntrackDump::Source {
public:
    static Result<std::unique_ptr<Source>> open() {
        auto source = std::unique_ptr<NetlinkSource>(new NetlinkSource);
        source->socket_.reset(mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC));
        if (!source->socket_ || mnl_socket_bind(source->socket_.get(), 0, MNL_SOCKET_AUTOPID) != 0) {
            return system_error("conntrack: cannot open a netlink socket");
        }
        Request request(nfnl_type(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET), NLM_F_DUMP);
        request.family_header<nfgenmsg>().version = NFNETLINK_V0;  // of all families
        request.header()->nlmsg_seq = sequence;
        if (mnl_socket_sendto(source->socket_.get(), request.header(), request.header()->nlmsg_len) < 0) {
            return refused({.what = "cannot send a netlink request", .code = errno, .hint = {}});
        }
        return source;
    }

    Piece next() override {
        if (over_) {
            return std::nullopt;
        }
        std::vector<Connection> connections;
        std::size_t entries = 0;
        const auto take = [&](const Message& message) -> Result<void> {
            ++entries;
            const auto entry = parse_conntrack(message);
            if (!entry) {
                return std::unexpected(entry.error());
            }
            if (const auto& found = *entry) {
                if (auto connection = rewritten_connection(*found, {})) {
                    connections.push_back(*std::move(connection));
                }
            }
            return {};
        };
        while (!over_ && entries < ConntrackDump::piece) {
            const auto size = mnl_socket_recvfrom(socket_.get(), buffer_.data(), buffer_.size());
            if (size < 0 && errno == EINTR) {
                continue;
            }
            if (size <= 0) {
                return refused({.what = "cannot receive a netlink answer", .code = size < 0 ? errno : 0, .hint = {}});
            }
            const auto more = read_messages(Bytes(buffer_).first(static_cast<std::size_t>(size)), sequence,
                                            mnl_socket_get_portid(socket_.get()), take);
            if (!more) {
                return refused(more.error());
            }
            over_ = !*more;
        }
        return connections;
    }

private:
    static constexpr std::uint32_t sequence = 1;

    NetlinkSource() = default;

    static std::unexpected<Error> refused(Error error) {
        error.what = fmt::format("conntrack: {}", error.what);
        if (error.code == EPERM || error.code == EACCES) {
            error.hint = "needs root, or CAP_NET_ADMIN in the network namespace's user namespace";
        }
        return std::unexpected(std::move(error));
    }

    std::unique_ptr<mnl_socket, CloseSocket> socket_;
    // Larger than any datagram of a dump: the kernel fills at most 32 KiB (netlink_dump, max_recvmsg_len).
    alignas(nlmsghdr) std::array<std::uint8_t, 64UL * 1024> buffer_{};
    bool over_ = false;
};

class TextSource : public ConntrackDump::Source {
public:
    static Result<std::unique_ptr<Source>> open() {
        auto source = std::unique_ptr<TextSource>(new TextSource);
        if (!source->text_) {
            return system_error("/proc/thread-self/net/nf_conntrack", errno,
                                "this kernel shows conntrack entries neither by netlink nor in /proc");
        }
        std::ifstream ipvs("/proc/thread-self/net/ip_vs_conn");
        // No ip_vs: nothing was rewritten by it.
        if (auto connections = ipvs ? parse_ipvs_connections(ipvs) : IpvsConnections{}) {
            source->ipvs_ = *std::move(connections);
        } else {
            return std::unexpected(connections.error());
        }
        return source;
    }

    Piece next() override {
        std::string lines;
        std::size_t count = 0;
        for (std::string line; count < ConntrackDump::piece && std::getline(text_, line); ++count) {
            lines += line;
            lines += '\n';
        }
        if (count == 0) {
            return std::nullopt;
        }
        std::istringstream text(lines);
        const auto entries = parse_conntrack_text(text);
        if (!entries) {
            return std::unexpected(entries.error());
        }
        std::vector<Connection> connections;
        for (const auto& entry : *entries) {
            if (auto connection = rewritten_connection(entry, ipvs_)) {
                connections.push_back(*std::move(connection));
            }
        }
        return connections;
    }

private:
    TextSource() : text_("/proc/thread-self/net/nf_conntrack") {}

    std::ifstream text_;
    IpvsConnections ipvs_;
};

}  // namespace

Result<ConntrackDump> ConntrackDump::begin() {
    const auto netns = current_netns_inode();
    if (!netns) {
        return std::unexpected(netns.error());
    }
    if (!subsystem_present("nf_conntrack")) {
        return ConntrackDump(nullptr, *netns);
    }
    const bool by_netlink = subsystem_present("nf_conntrack_netlink") && subsystem_present("nfnetlink");
    auto source = by_netlink ? NetlinkSource::open() : TextSource::open();
    if (!source) {
        return std::unexpected(source.error());
    }
    return ConntrackDump(*std::move(source), *netns);
}

Piece ConntrackDump::next() {
    if (!source_) {
        return std::nullopt;
    }
    auto found = source_->next();
    if (!found || !*found) {
        source_.reset();
        return found;
    }
    const auto now = boot_clock_ns();
    for (auto& connection : **found) {
        connection.netns = netns_;
        connection.boot_ns = now;
    }
    return found;
}

}  // namespace hptrace
