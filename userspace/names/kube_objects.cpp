// SPDX-License-Identifier: GPL-2.0-or-later
#include "names/kube_objects.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "state/json_read.hpp"

namespace hptrace {

namespace {

using nlohmann::json;

// Large, and of no use here.
constexpr std::array<std::string_view, 7> never_needed{"managedFields", "annotations", "env",     "volumes",
                                                       "volumeMounts",  "conditions",  "affinity"};

// The list under this key: empty if it is missing or null; null if it is something else.
const json::array_t* list_at(const json& object, std::string_view key) {
    static const json::array_t empty;
    const auto* const value = member(object, key);
    if (value == nullptr || value->is_null()) {
        return &empty;
    }
    return value->get_ptr<const json::array_t*>();
}

const json::array_t& list_or_empty(const json& object, std::string_view key) {
    static const json::array_t empty;
    const auto* const list = list_at(object, key);
    return list == nullptr ? empty : *list;
}

std::optional<std::uint16_t> port_at(const json& object, std::string_view key) {
    const auto number = number_of(object, key);
    return number && *number > 0 && *number <= std::numeric_limits<std::uint16_t>::max()
               ? std::optional(static_cast<std::uint16_t>(*number))
               : std::nullopt;
}

// The API leaves out nothing here, but TCP is what a missing one means.
std::optional<Protocol> protocol_of(const json& port) {
    return parse_protocol(text_of(port, "protocol").value_or("TCP"));
}

// namespace and name of the object itself; nothing: it has none.
std::optional<Pod> identity(const json& object) {
    const auto* const metadata = member(object, "metadata");
    if (metadata == nullptr) {
        return std::nullopt;
    }
    auto ns = text_of(*metadata, "namespace");
    auto name = text_of(*metadata, "name");
    if (!ns || !name || ns->empty() || name->empty()) {
        return std::nullopt;
    }
    return Pod{*std::move(ns), *std::move(name)};
}

void add_address(const std::optional<std::string>& text, std::vector<Address>& to) {
    const auto address = text ? parse_address(*text) : std::nullopt;
    if (address && std::ranges::find(to, *address) == to.end()) {
        to.push_back(*address);
    }
}

// Texts that are addresses; "None" of headless Services is not.
void add_addresses(const json& object, std::string_view key, std::vector<Address>& to) {
    for (const auto& text : list_or_empty(object, key)) {
        if (text.is_string()) {
            add_address(text.get<std::string>(), to);
        }
    }
}

// [{"ip": ...}]
void add_ips(const json& object, std::string_view key, std::vector<Address>& to) {
    for (const auto& entry : list_or_empty(object, key)) {
        add_address(text_of(entry, "ip"), to);
    }
}

std::vector<Address> addresses_of_service(const json& service, const json& spec) {
    std::vector<Address> addresses;
    add_addresses(spec, "clusterIPs", addresses);
    add_address(text_of(spec, "clusterIP"), addresses);
    add_addresses(spec, "externalIPs", addresses);
    const auto* const status = member(service, "status");
    if (const auto* const balancer = status == nullptr ? nullptr : member(*status, "loadBalancer");
        balancer != nullptr) {
        add_ips(*balancer, "ingress", addresses);
    }
    return addresses;
}

// Of the containers, and of init containers that keep running beside them.
std::vector<NodePods::HostPort> host_ports_of(const json& spec) {
    std::vector<NodePods::HostPort> found;
    for (const auto* const list : {"containers", "initContainers"}) {
        for (const auto& container : list_or_empty(spec, list)) {
            for (const auto& port : list_or_empty(container, "ports")) {
                const auto host_port = port_at(port, "hostPort");
                const auto protocol = protocol_of(port);
                if (host_port && protocol) {
                    found.push_back({*host_port, *protocol});
                }
            }
        }
    }
    return found;
}

bool is_true(const json& object, std::string_view key) {
    const auto* const value = member(object, key);
    return value != nullptr && value->is_boolean() && value->get<bool>();
}

// The items as they are read, none of them kept.
class ItemReader {
public:
    explicit ItemReader(const std::function<bool(const json&)>& take) : take_(take) {}

    // For json::parse(): false throws away what it is called with.
    bool operator()(int depth, json::parse_event_t event, const json& value) {
        if (event == json::parse_event_t::key) {
            if (depth == 1) {
                in_items_ = value == "items";
                has_items_ = has_items_ || in_items_;
            }
            return std::ranges::find(never_needed, value.get_ref<const std::string&>()) == never_needed.end();
        }
        if (!in_items_ || depth != 2 ||
            (event != json::parse_event_t::object_end && event != json::parse_event_t::value)) {
            return true;
        }
        ++page.items;
        page.skipped += take_(value) ? 0U : 1U;
        return false;
    }

    [[nodiscard]] bool has_items() const { return has_items_; }
    KubePage page;

private:
    const std::function<bool(const json&)>& take_;
    bool in_items_ = false;
    bool has_items_ = false;
};

}  // namespace

Result<KubePage> parse_kube_page(std::string_view text, const std::function<bool(const json&)>& take) {
    ItemReader reader(take);
    const auto root = json::parse(
        text, [&reader](int depth, json::parse_event_t event, json& value) { return reader(depth, event, value); },
        false);
    if (root.is_discarded()) {
        return failure("the answer is not JSON, or cut off");
    }
    if (!text_of(root, "kind").value_or("").ends_with("List") || !reader.has_items()) {
        return failure("the answer is not a list");
    }
    if (const auto* const metadata = member(root, "metadata"); metadata != nullptr) {
        reader.page.next = text_of(*metadata, "continue").value_or("");
    }
    return reader.page;
}

bool take_service(const json& service, ServiceNames& names) {
    const auto who = identity(service);
    const auto* const spec = member(service, "spec");
    if (!who || spec == nullptr || !spec->is_object()) {
        return false;
    }
    const auto addresses = addresses_of_service(service, *spec);
    bool understood = list_at(*spec, "ports") != nullptr;
    for (const auto& port : list_or_empty(*spec, "ports")) {
        const auto number = port_at(port, "port");
        const auto protocol = protocol_of(port);
        if (!number || !protocol) {
            understood = false;
            continue;
        }
        const ServiceName name{who->ns, who->name, text_of(port, "name").value_or("")};
        for (const auto& address : addresses) {
            names.add({address, *number}, *protocol, name);
        }
        if (const auto node_port = port_at(port, "nodePort")) {
            names.add_node_port(*node_port, *protocol, name);
        }
    }
    if (const auto health = port_at(*spec, "healthCheckNodePort")) {
        names.add_node_port(*health, Protocol::tcp, {who->ns, who->name, ""});
    }
    return understood;
}

bool take_endpoint_slice(const json& slice, NameTable<Pod>& names,
                         const std::function<void(std::string_view)>& on_node) {
    const auto* const ports = list_at(slice, "ports");
    const auto* const endpoints = list_at(slice, "endpoints");
    if (!identity(slice) || ports == nullptr || endpoints == nullptr) {
        return false;
    }
    for (const auto& endpoint : *endpoints) {
        if (const auto node = text_of(endpoint, "nodeName")) {
            on_node(*node);
        }
        const auto* const target = member(endpoint, "targetRef");
        if (target == nullptr || text_of(*target, "kind") != "Pod") {
            continue;
        }
        auto ns = text_of(*target, "namespace");
        auto name = text_of(*target, "name");
        if (!ns || !name) {
            continue;
        }
        const Pod pod{*std::move(ns), *std::move(name)};
        std::vector<Address> addresses;
        add_addresses(endpoint, "addresses", addresses);  // of type FQDN: none
        for (const auto& port : *ports) {
            const auto number = port_at(port, "port");
            const auto protocol = protocol_of(port);
            for (const auto& address : number&& protocol ? addresses : std::vector<Address>()) {
                names.add({address, *number}, *protocol, pod);
            }
        }
    }
    return true;
}

bool take_pod(const json& pod, NodePods& pods) {
    auto who = identity(pod);
    const auto* const spec = member(pod, "spec");
    const auto* const status = member(pod, "status");
    if (!who || spec == nullptr || status == nullptr) {
        return false;
    }
    const auto phase = text_of(*status, "phase").value_or("");
    if (is_true(*spec, "hostNetwork") || phase == "Succeeded" || phase == "Failed") {
        return true;
    }
    NodePods::Entry entry;
    entry.pod = *std::move(who);
    add_ips(*status, "podIPs", entry.ips);
    add_address(text_of(*status, "podIP"), entry.ips);
    entry.host_ports = host_ports_of(*spec);
    const auto& metadata = *member(pod, "metadata");
    entry.terminating = text_of(metadata, "deletionTimestamp").has_value();
    entry.created = text_of(metadata, "creationTimestamp").value_or("");
    if (!entry.ips.empty()) {  // else it has not started yet
        pods.add(std::move(entry));
    }
    return true;
}

}  // namespace hptrace
