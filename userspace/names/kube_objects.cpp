// SPDX-License-Identifier: GPL-2.0-or-later
#include "names/kube_objects.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "names/kube_page_reader.hpp"
#include "state/json_read.hpp"

namespace hptrace {

namespace {

using nlohmann::json;

// What Kubernetes allows for the name of anything (RFC 1123 subdomain). A longer one is none.
constexpr std::size_t longest_name = 253;
// An endpoint may have 100, a Service's external addresses are not limited.
constexpr std::size_t most_addresses = 1'000;

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

// The name under this key; nothing: there is none, or it is not one.
std::optional<std::string> name_of(const json& object, std::string_view key) {
    auto name = text_of(object, key);
    return name && !name->empty() && name->size() <= longest_name ? std::move(name) : std::nullopt;
}

// namespace and name of what this describes or refers to.
std::optional<Pod> pod_of(const json& object) {
    auto ns = name_of(object, "namespace");
    auto name = name_of(object, "name");
    return ns && name ? std::optional(Pod{*std::move(ns), *std::move(name)}) : std::nullopt;
}

// Of the object itself; nothing: it has none.
std::optional<Pod> identity(const json& object) {
    const auto* const metadata = member(object, "metadata");
    if (metadata == nullptr) {
        return std::nullopt;
    }
    return pod_of(*metadata);
}

// Different addresses of one object, a limited number of them: each new one is compared with all others.
class Addresses {
public:
    void add(const std::optional<std::string>& text) {
        if (all_.size() == most_addresses) {
            left_out_ += text ? 1U : 0U;
            return;
        }
        const auto address = text ? parse_address(*text) : std::nullopt;
        if (address && std::ranges::find(all_, *address) == all_.end()) {
            all_.push_back(*address);
        }
    }
    // Texts that are addresses; "None" of headless Services is not, nor are the names of an EndpointSlice of type FQDN.
    void add_texts(const json& object, std::string_view key) {
        for (const auto& text : list_or_empty(object, key)) {
            add(text.is_string() ? std::optional(text.get<std::string>()) : std::nullopt);
        }
    }
    // [{"ip": ...}]
    void add_ips(const json& object, std::string_view key) {
        for (const auto& entry : list_or_empty(object, key)) {
            add(text_of(entry, "ip"));
        }
    }

    [[nodiscard]] const std::vector<Address>& all() const { return all_; }
    [[nodiscard]] std::size_t left_out() const { return left_out_; }

private:
    std::vector<Address> all_;
    std::size_t left_out_ = 0;
};

Addresses addresses_of_service(const json& service, const json& spec) {
    Addresses addresses;
    addresses.add_texts(spec, "clusterIPs");
    addresses.add(text_of(spec, "clusterIP"));
    addresses.add_texts(spec, "externalIPs");
    const auto* const status = member(service, "status");
    if (const auto* const balancer = status == nullptr ? nullptr : member(*status, "loadBalancer");
        balancer != nullptr) {
        addresses.add_ips(*balancer, "ingress");
    }
    return addresses;
}

// Of one object there are names for so many pairs of address and port, and no more.
class ObjectNames {
public:
    template <class Table, class Name>
    void add(Table& names, const Addresses& addresses, std::uint16_t port, Protocol protocol, const Name& name) {
        const auto& all = addresses.all();
        const auto fit = std::min(all.size(), left_);
        for (std::size_t i = 0; i < fit; ++i) {
            names.add({all[i], port}, protocol, name);
        }
        left_ -= fit;
        names.leave_out(all.size() - fit + addresses.left_out());
    }

private:
    std::size_t left_ = most_names_per_object;
};

// Of the containers, and of init containers that keep running beside them.
std::vector<NodePods::HostPort> host_ports_of(const json& spec) {
    std::vector<NodePods::HostPort> found;
    for (const auto* const list : {"containers", "initContainers"}) {
        for (const auto& container : list_or_empty(spec, list)) {
            for (const auto& port : list_or_empty(container, "ports")) {
                const auto host_port = port_at(port, "hostPort");
                const auto protocol = protocol_of(port);
                if (host_port && protocol && found.size() < most_names_per_object) {
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

}  // namespace

Result<KubePage> parse_kube_page(std::string_view text, const std::function<bool(const json&)>& take,
                                 const std::stop_token& stop, const KubePageLimits& limits) {
    KubePage page;
    KubePageText watched(text, limits, stop);
    KubePageReader reader(limits, [&](const json& item) {
        ++page.items;
        page.skipped += take(item) ? 0U : 1U;
    });
    const bool parsed = json::sax_parse(KubePageText::Iterator(watched), KubePageText::Iterator(), &reader);
    if (watched.is_stopped()) {
        return failure("stopped");
    }
    if (watched.has_long_token()) {
        return failure(fmt::format("no text begins or ends within {} bytes of the answer", limits.token));
    }
    if (reader.is_too_deep()) {
        return failure(fmt::format("the answer is nested more than {} levels deep", limits.depth));
    }
    if (!parsed) {
        return failure("the answer is not JSON, or cut off");
    }
    if (!text_of(reader.root(), "kind").value_or("").ends_with("List") || !reader.has_items()) {
        return failure("the answer is not a list");
    }
    page.items += reader.too_large();
    page.skipped += reader.too_large();
    const auto* const metadata = member(reader.root(), "metadata");
    if (const auto* const next = metadata == nullptr ? nullptr : member(*metadata, "continue"); next != nullptr) {
        if (!next->is_string()) {  // as when it was too long: the rest of the list would be missing
            return failure("the answer does not say where the list goes on");
        }
        page.next = next->get<std::string>();
    }
    return page;
}

bool take_service(const json& service, ServiceNames& names) {
    const auto who = identity(service);
    const auto* const spec = member(service, "spec");
    if (!who || spec == nullptr || !spec->is_object()) {
        return false;
    }
    const auto addresses = addresses_of_service(service, *spec);
    ObjectNames of_service;
    bool understood = list_at(*spec, "ports") != nullptr;
    for (const auto& port : list_or_empty(*spec, "ports")) {
        const auto number = port_at(port, "port");
        const auto protocol = protocol_of(port);
        if (!number || !protocol) {
            understood = false;
            continue;
        }
        const ServiceName name{who->ns, who->name, name_of(port, "name").value_or("")};
        of_service.add(names, addresses, *number, *protocol, name);
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
    std::vector<NodePods::HostPort> numbers;
    for (const auto& port : *ports) {
        const auto number = port_at(port, "port");
        const auto protocol = protocol_of(port);
        if (number && protocol) {
            numbers.push_back({*number, *protocol});
        }
    }
    ObjectNames of_slice;
    for (const auto& endpoint : *endpoints) {
        if (const auto node = name_of(endpoint, "nodeName")) {
            on_node(*node);
        }
        const auto* const target = member(endpoint, "targetRef");
        if (target == nullptr || text_of(*target, "kind") != "Pod") {
            continue;
        }
        const auto pod = pod_of(*target);
        if (!pod) {
            continue;
        }
        Addresses addresses;
        addresses.add_texts(endpoint, "addresses");
        for (const auto& [port, protocol] : numbers) {
            of_slice.add(names, addresses, port, protocol, *pod);
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
    Addresses addresses;
    addresses.add_ips(*status, "podIPs");
    addresses.add(text_of(*status, "podIP"));
    pods.leave_out(addresses.left_out());
    const auto& metadata = *member(pod, "metadata");
    NodePods::Entry entry;
    entry.pod = *std::move(who);
    entry.ips = addresses.all();
    entry.host_ports = host_ports_of(*spec);
    entry.terminating = text_of(metadata, "deletionTimestamp").has_value();
    entry.created = name_of(metadata, "creationTimestamp").value_or("");
    if (!entry.ips.empty()) {  // else it has not started yet
        pods.add(std::move(entry));
    }
    return true;
}

}  // namespace hptrace
