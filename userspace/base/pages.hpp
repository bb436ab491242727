// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>

namespace hptrace {

// Memory of the kernel's own, for something large that is needed once: it is zero without being written to, and goes
// back at once.
class Pages {
public:
    Pages() = default;
    // Nothing: there is no memory (errno says so).
    static std::optional<Pages> allocate(std::size_t size) {
        void* const begin =
            ::mmap(nullptr, std::max<std::size_t>(size, 1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (begin == MAP_FAILED) {
            return std::nullopt;
        }
        return Pages(static_cast<std::byte*>(begin), size);
    }

    Pages(Pages&& other) noexcept
        : begin_(std::exchange(other.begin_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    Pages& operator=(Pages&& other) noexcept {
        std::swap(begin_, other.begin_);
        std::swap(size_, other.size_);
        return *this;
    }
    Pages(const Pages&) = delete;
    Pages& operator=(const Pages&) = delete;
    ~Pages() {
        if (begin_ != nullptr) {
            ::munmap(begin_, std::max<std::size_t>(size_, 1));
        }
    }

    [[nodiscard]] std::span<std::byte> bytes() const { return {begin_, size_}; }

private:
    Pages(std::byte* begin, std::size_t size) : begin_(begin), size_(size) {}

    std::byte* begin_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace hptrace
