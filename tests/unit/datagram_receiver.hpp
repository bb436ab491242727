// SPDX-License-Identifier: GPL-2.0-or-later
// A socket that stands for one of systemd's.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <optional>
#include <stdexcept>
#include <string>

#include "base/fd.hpp"

namespace hptrace::test {

class DatagramReceiver {
public:
    explicit DatagramReceiver(std::string path) : path_(std::move(path)), fd_(::socket(AF_UNIX, SOCK_DGRAM, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path_.copy(static_cast<char*>(address.sun_path), sizeof address.sun_path - 1);
        if (!fd_) {
            throw std::runtime_error("no socket");
        }
        REQUIRE(::bind(fd_.get(), std::bit_cast<const sockaddr*>(&address), sizeof address) == 0);
    }
    DatagramReceiver(const DatagramReceiver&) = delete;
    DatagramReceiver& operator=(const DatagramReceiver&) = delete;
    DatagramReceiver(DatagramReceiver&&) = delete;
    DatagramReceiver& operator=(DatagramReceiver&&) = delete;
    ~DatagramReceiver() { ::unlink(path_.c_str()); }

    // The next datagram; nothing: there is none.
    [[nodiscard]] std::optional<std::string> next() const {
        std::array<char, 65536> data{};
        const auto size = ::recv(fd_.get(), data.data(), data.size(), MSG_DONTWAIT);
        return size < 0 ? std::nullopt : std::optional(std::string(data.data(), static_cast<std::size_t>(size)));
    }

private:
    std::string path_;
    Fd fd_;
};

}  // namespace hptrace::test
