// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/set_names.hpp"

#include <linux/netfilter/ipset/ip_set.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <memory>
#include <unordered_map>

#include "base/fd.hpp"

namespace hptrace {
namespace {

class KernelSetNames {
public:
    std::optional<std::string> name(std::uint16_t index) {
        const auto known = names_.find(index);
        if (known != names_.end()) {
            return known->second;
        }
        return names_.emplace(index, ask(index)).first->second;
    }

private:
    std::optional<std::string> ask(std::uint16_t index) {
        if (!open()) {
            return std::nullopt;
        }
        ip_set_req_get_set request{};
        request.op = IP_SET_OP_GET_BYINDEX;
        request.version = version_;
        request.set.index = index;
        socklen_t size = sizeof(request);
        if (getsockopt(socket_.get(), SOL_IP, SO_IP_SET, &request, &size) != 0 || size != sizeof(request)) {
            return std::nullopt;
        }
        const std::size_t length = strnlen(request.set.name, sizeof(request.set.name));
        if (length == 0) {  // no set has this index
            return std::nullopt;
        }
        return std::string(request.set.name, length);
    }

    bool open() {
        if (socket_) {
            return true;
        }
        Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));  // any, as in legacy_read.cpp
        if (!fd) {
            return false;
        }
        ip_set_req_version request{};  // the kernel refuses a request of another protocol version
        request.op = IP_SET_OP_VERSION;
        socklen_t size = sizeof(request);
        if (getsockopt(fd.get(), SOL_IP, SO_IP_SET, &request, &size) != 0 || size != sizeof(request)) {
            return false;
        }
        version_ = request.version;
        socket_ = std::move(fd);
        return true;
    }

    Fd socket_;
    unsigned int version_ = 0;
    std::unordered_map<std::uint16_t, std::optional<std::string>> names_;
};

}  // namespace

SetNameOf kernel_set_names() {
    return [names = std::make_shared<KernelSetNames>()](std::uint16_t index) { return names->name(index); };
}

}  // namespace hptrace
