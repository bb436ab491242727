// SPDX-License-Identifier: GPL-2.0-or-later
// Netlink messages as the kernel would send them, for the parsers.
#pragma once

#include <libmnl/libmnl.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "state/netlink.hpp"

// One message under construction.
class MessageBuilder {
public:
    explicit MessageBuilder(std::uint16_t type, std::uint16_t flags = 0, std::uint32_t sequence = 1,
                            std::uint32_t portid = 42)
        : buffer_(16384) {
        auto* const message = mnl_nlmsg_put_header(buffer_.data());
        message->nlmsg_type = type;
        message->nlmsg_flags = flags;
        message->nlmsg_seq = sequence;
        message->nlmsg_pid = portid;
    }

    template <class Header>
    MessageBuilder& extra(const Header& header) {
        std::memcpy(mnl_nlmsg_put_extra_header(this->header(), sizeof(header)), &header, sizeof(header));
        return *this;
    }
    template <class T>
    MessageBuilder& attribute(std::uint16_t type, const T& value) {
        mnl_attr_put(header(), type, sizeof(value), &value);
        return *this;
    }
    MessageBuilder& text(std::uint16_t type, const std::string& value) {
        mnl_attr_put_strz(header(), type, value.c_str());
        return *this;
    }
    MessageBuilder& nest(std::uint16_t type, const std::function<void(MessageBuilder&)>& fill) {
        auto* const start = mnl_attr_nest_start(header(), type);
        fill(*this);
        mnl_attr_nest_end(header(), start);
        return *this;
    }

    [[nodiscard]] nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(buffer_.data()); }
    [[nodiscard]] hptrace::Bytes bytes() { return hptrace::Bytes(buffer_).first(header()->nlmsg_len); }
    // As a parser gets it; `cut` bytes are missing at the end.
    [[nodiscard]] hptrace::Message message(std::size_t cut = 0) {
        header()->nlmsg_len -= static_cast<std::uint32_t>(cut);
        return {.header = header(), .payload = bytes().subspan(sizeof(nlmsghdr))};
    }

private:
    std::vector<std::uint8_t> buffer_;
};
