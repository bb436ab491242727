// SPDX-License-Identifier: GPL-2.0-or-later
// How an answer of the Kubernetes API is parsed without trusting it: as events, of which only what hptrace needs is
// kept, for one item at a time.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "names/kube_objects.hpp"

namespace hptrace {

// The bytes of an answer for nlohmann's parser, which keeps a whole token in memory, twice: ends early at a token that
// is too long, or when it is to stop.
class KubePageText {
public:
    KubePageText(std::string_view text, const KubePageLimits& limits, std::stop_token stop)
        : text_(text), limits_(limits), stop_(std::move(stop)) {}

    class Iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = char;
        using difference_type = std::ptrdiff_t;
        using pointer = const char*;
        using reference = const char&;

        Iterator() = default;  // the end
        explicit Iterator(KubePageText& text) : text_(&text) {}
        reference operator*() const { return text_->text_[text_->at_]; }
        Iterator& operator++() {
            text_->advance();
            return *this;
        }
        Iterator operator++(int) {
            const auto before = *this;
            text_->advance();
            return before;
        }
        bool operator==(const Iterator& other) const { return ended() == other.ended(); }

    private:
        [[nodiscard]] bool ended() const { return text_ == nullptr || text_->at_ == text_->text_.size(); }

        KubePageText* text_ = nullptr;
    };

    [[nodiscard]] bool is_stopped() const { return is_stopped_; }
    [[nodiscard]] bool has_long_token() const { return has_long_token_; }

private:
    void advance() {
        // Between two quotation marks that are none of a text's own characters is a text, or are numbers and brackets.
        const char c = text_[at_++];
        if (is_escaped_) {
            is_escaped_ = false;
        } else if (c == '"') {
            token_begin_ = at_;
        } else {
            is_escaped_ = c == '\\';
        }
        has_long_token_ = at_ - token_begin_ > limits_.token;
        is_stopped_ = at_ % limits_.stop_interval == 0 && stop_.stop_requested();
        if (has_long_token_ || is_stopped_) {
            text_ = text_.substr(0, at_);
        }
    }

    std::string_view text_;
    KubePageLimits limits_;
    std::stop_token stop_;
    std::size_t at_ = 0;
    std::size_t token_begin_ = 0;
    bool is_escaped_ = false;
    bool is_stopped_ = false;
    bool has_long_token_ = false;
};

// Builds each element of the list "items" of the outermost object, hands it on and forgets it. The outermost object
// itself is kept as far as it is needed.
class KubePageReader final : public nlohmann::json_sax<nlohmann::json> {
public:
    using json = nlohmann::json;

    // The values of these keys are kept, wherever they are; all others are no more than read over.
    static constexpr std::array<std::string_view, 32> needed_keys{"addresses",
                                                                  "clusterIP",
                                                                  "clusterIPs",
                                                                  "containers",
                                                                  "continue",
                                                                  "creationTimestamp",
                                                                  "deletionTimestamp",
                                                                  "endpoints",
                                                                  "externalIPs",
                                                                  "healthCheckNodePort",
                                                                  "hostNetwork",
                                                                  "hostPort",
                                                                  "ingress",
                                                                  "initContainers",
                                                                  "ip",
                                                                  "items",
                                                                  "kind",
                                                                  "loadBalancer",
                                                                  "metadata",
                                                                  "name",
                                                                  "namespace",
                                                                  "nodeName",
                                                                  "nodePort",
                                                                  "phase",
                                                                  "podIP",
                                                                  "podIPs",
                                                                  "port",
                                                                  "ports",
                                                                  "protocol",
                                                                  "spec",
                                                                  "status",
                                                                  "targetRef"};
    static_assert(std::ranges::is_sorted(needed_keys));

    KubePageReader(const KubePageLimits& limits, std::function<void(const json&)> take)
        : limits_(limits), take_(std::move(take)) {}

    [[nodiscard]] const json& root() const { return root_; }     // without its items
    [[nodiscard]] bool has_items() const { return has_items_; }  // a list of them, or null for an empty one
    [[nodiscard]] bool is_too_deep() const { return is_too_deep_; }
    [[nodiscard]] std::size_t too_large() const { return too_large_; }  // items that were skipped for it

    bool null() override { return value(nullptr, 0); }
    bool boolean(bool given) override { return value(given, 0); }
    bool number_integer(json::number_integer_t given) override { return value(given, 0); }
    bool number_unsigned(json::number_unsigned_t given) override { return value(given, 0); }
    bool number_float(json::number_float_t given, const json::string_t& /*text*/) override { return value(given, 0); }
    bool string(json::string_t& given) override {
        return given.size() > limits_.text ? value(nullptr, 0) : value(given, given.size());
    }
    bool binary(json::binary_t& /*given*/) override { return false; }  // not in JSON
    bool start_object(std::size_t /*size*/) override { return open(json::value_t::object); }
    bool start_array(std::size_t /*size*/) override { return open(json::value_t::array); }
    bool key(json::string_t& given) override {
        is_needed_ = std::ranges::binary_search(needed_keys, std::string_view(given));
        if (is_needed_) {
            key_ = given;
        }
        return true;
    }
    bool end_object() override { return close(); }
    bool end_array() override { return close(); }
    bool parse_error(std::size_t /*at*/, const std::string& /*token*/, const json::exception& /*why*/) override {
        return false;
    }

private:
    // Would the next value be kept?
    [[nodiscard]] bool is_wanted() const {
        if (open_.empty()) {
            return true;
        }
        const auto* const around = open_.back();
        return around != nullptr && (around->is_array() || is_needed_) && kept_ <= limits_.item;
    }
    // Is the next value the outermost object's list of items?
    [[nodiscard]] bool is_items_next() const {
        return open_.size() == 1 && open_.back()->is_object() && is_needed_ && key_ == "items";
    }
    // Is the value that has just ended an item?
    [[nodiscard]] bool is_item() const { return open_.size() == 2 && items_ != nullptr && open_.back() == items_; }

    // Where it is now. `bytes`: what it takes beside the value itself.
    json* keep(json&& given, std::size_t bytes) {
        if (open_.empty()) {
            root_ = std::move(given);
            return &root_;
        }
        auto& around = *open_.back();
        kept_ += sizeof(json) + bytes + (around.is_object() ? bytes_per_member : 0);
        if (around.is_array()) {
            around.push_back(std::move(given));
            return &around.back();
        }
        auto& place = around[key_];
        place = std::move(given);
        return &place;
    }

    template <class Value>
    bool value(const Value& given, std::size_t bytes) {
        if (is_items_next()) {
            has_items_ = std::is_null_pointer_v<Value>;
        }
        if (is_wanted()) {
            keep(json(given), bytes);
        }
        if (is_item()) {
            end_item();
        }
        return true;
    }

    bool open(json::value_t kind) {
        is_too_deep_ = open_.size() == limits_.depth;
        if (is_too_deep_) {
            return false;
        }
        const bool is_items = is_items_next();
        auto* const place = is_wanted() ? keep(json(kind), bytes_per_list) : nullptr;
        open_.push_back(place);
        if (is_items) {
            items_ = kind == json::value_t::array ? place : nullptr;
            has_items_ = items_ != nullptr;
            kept_ = 0;
        }
        return true;
    }

    bool close() {
        if (open_.size() == 2 && open_.back() == items_) {
            items_ = nullptr;
        }
        open_.pop_back();
        if (is_item()) {
            end_item();
        }
        return true;
    }

    void end_item() {
        if (kept_ > limits_.item || items_->empty()) {
            ++too_large_;
        } else {
            take_(items_->back());
        }
        items_->clear();
        kept_ = 0;
    }

    static constexpr std::size_t bytes_per_member = 80;  // a node of std::map with a short key
    static constexpr std::size_t bytes_per_list = 48;    // a std::map, or a std::vector

    KubePageLimits limits_;
    std::function<void(const json&)> take_;
    json root_;
    std::vector<json*> open_;  // lists and objects around the next value, the outermost first; null: not kept
    json* items_ = nullptr;    // one of them
    std::string key_;          // of the next value, if that is needed
    bool is_needed_ = false;
    bool has_items_ = false;
    bool is_too_deep_ = false;
    std::size_t kept_ = 0;  // bytes of this item, or of the outermost object
    std::size_t too_large_ = 0;
};

}  // namespace hptrace
