// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/netlink.hpp"

#include <linux/netlink.h>

#include <catch2/catch_test_macros.hpp>
#include <initializer_list>
#include <limits>
#include <vector>

#include "messages.hpp"

using namespace hptrace;

namespace {

constexpr std::uint16_t data_type = 0x100;

std::vector<std::uint8_t> datagram(std::initializer_list<Bytes> messages) {
    std::vector<std::uint8_t> all;
    for (const auto message : messages) {
        all.insert(all.end(), message.begin(), message.end());
        all.resize(netlink_align(all.size()));
    }
    return all;
}

MessageBuilder data_message(std::uint32_t value) {
    MessageBuilder message(data_type, NLM_F_MULTI);
    message.extra(value);
    return message;
}

MessageBuilder status_message(std::uint16_t type, std::int32_t status) {
    MessageBuilder message(type);
    message.extra(status).extra(nlmsghdr{});
    return message;
}

struct Answer {
    Result<bool> more;
    int handled = 0;
};

Answer read(Bytes bytes) {
    Answer answer{.more = true};
    answer.more = read_messages(bytes, 1, 42, [&](const Message&) -> Result<void> {
        ++answer.handled;
        return {};
    });
    return answer;
}

}  // namespace

TEST_CASE("a dump is complete only when the kernel says so", "[netlink]") {
    auto first = data_message(1);
    auto second = data_message(2);
    auto done = status_message(NLMSG_DONE, 0);
    const auto unfinished = read(datagram({first.bytes(), second.bytes()}));
    CHECK(unfinished.more == true);
    CHECK(unfinished.handled == 2);
    const auto finished = read(datagram({first.bytes(), done.bytes()}));
    CHECK(finished.more == false);
    CHECK(finished.handled == 1);
}

TEST_CASE("the kernel's refusals keep their errno", "[netlink]") {
    auto refused = status_message(NLMSG_ERROR, -EPERM);
    auto acknowledged = status_message(NLMSG_ERROR, 0);
    auto failed_dump = status_message(NLMSG_DONE, -ENOMEM);
    const auto refusal = read(refused.bytes()).more;
    REQUIRE_FALSE(refusal);
    CHECK(refusal.error().code == EPERM);
    CHECK(read(acknowledged.bytes()).more == false);
    const auto failure = read(failed_dump.bytes()).more;
    REQUIRE_FALSE(failure);
    CHECK(failure.error().code == ENOMEM);
}

TEST_CASE("a status that is no errno is an error all the same", "[netlink]") {
    for (const std::int32_t status : {std::numeric_limits<std::int32_t>::min(), 1}) {
        for (const auto type : {std::uint16_t{NLMSG_ERROR}, std::uint16_t{NLMSG_DONE}}) {
            auto message = status_message(type, status);
            const auto more = read(message.bytes()).more;
            REQUIRE_FALSE(more);
            CHECK(more.error().code == EPROTO);
        }
    }
}

TEST_CASE("a dump during which the data changed is not used", "[netlink]") {
    MessageBuilder message(data_type, NLM_F_MULTI | NLM_F_DUMP_INTR);
    message.extra(1);
    const auto answer = read(message.bytes());
    REQUIRE_FALSE(answer.more);
    CHECK(answer.more.error().code == EINTR);
    CHECK(answer.handled == 0);
}

TEST_CASE("truncated datagrams are errors at every length", "[netlink]") {
    auto first = data_message(1);
    auto done = status_message(NLMSG_DONE, 0);
    const auto whole = datagram({first.bytes(), done.bytes()});
    const auto boundary = first.bytes().size();
    for (std::size_t length = 1; length < whole.size(); ++length) {
        INFO("of " << whole.size() << " bytes only " << length);
        const auto answer = read(Bytes(whole).first(length));
        if (length == boundary) {
            CHECK(answer.more == true);
        } else {
            CHECK_FALSE(answer.more);
        }
    }
}

TEST_CASE("answers to other requests are not taken for ours", "[netlink]") {
    MessageBuilder other_sequence(data_type, NLM_F_MULTI, 2, 42);
    MessageBuilder other_socket(data_type, NLM_F_MULTI, 1, 43);
    CHECK_FALSE(read(other_sequence.bytes()).more);
    CHECK_FALSE(read(other_socket.bytes()).more);
}

TEST_CASE("impossible lengths are errors", "[netlink]") {
    auto message = data_message(1);
    message.header()->nlmsg_len = 3;
    CHECK_FALSE(read(datagram({Bytes(reinterpret_cast<const std::uint8_t*>(message.header()), 20)})).more);
    MessageBuilder empty_error(NLMSG_ERROR);
    CHECK_FALSE(read(empty_error.bytes()).more);
    MessageBuilder overrun(NLMSG_OVERRUN);
    CHECK_FALSE(read(overrun.bytes()).more);
}

TEST_CASE("attributes are checked before they are used", "[netlink]") {
    MessageBuilder message(data_type);
    message.attribute(1, std::uint32_t{7}).text(2, "name").attribute(3, std::uint16_t{0x5000});
    const auto bytes = message.message().payload;
    const auto attributes = Attributes::parse(bytes);
    REQUIRE(attributes);
    CHECK(attributes->number<std::uint32_t>(1) == 7U);
    CHECK(attributes->text(2) == "name");
    CHECK_FALSE(attributes->number<std::uint64_t>(1));  // too short for it
    CHECK_FALSE(attributes->find(4));
    CHECK_FALSE(attributes->nested(4));
    CHECK_FALSE(attributes->address(1, Family::ipv6));
    CHECK(attributes->address(1, Family::ipv4));

    CHECK_FALSE(Attributes::parse(bytes.first(bytes.size() - 3)));
    const std::vector<std::uint8_t> too_long{200, 0, 1, 0};
    CHECK_FALSE(Attributes::parse(too_long));
    const std::vector<std::uint8_t> too_short{3, 0, 1, 0};
    CHECK_FALSE(Attributes::parse(too_short));
}

TEST_CASE("a changed dump is read again, other errors are not", "[netlink]") {
    int calls = 0;
    const auto changed_twice = retry_interrupted([&]() -> Result<int> {
        if (++calls < 3) {
            return system_error("changed", EINTR);
        }
        return 5;
    });
    CHECK(changed_twice == 5);
    CHECK(calls == 3);

    calls = 0;
    const auto refused = retry_interrupted([&]() -> Result<int> {
        ++calls;
        return system_error("refused", EPERM);
    });
    CHECK_FALSE(refused);
    CHECK(calls == 1);

    calls = 0;
    const auto never_still = retry_interrupted([&]() -> Result<int> {
        ++calls;
        return system_error("changed", EINTR);
    });
    CHECK_FALSE(never_still);
    CHECK(calls < 100);
}
