// SPDX-License-Identifier: GPL-2.0-or-later
// What the table and the journal say in the same words. Not escaped: what writes it does that.
#pragma once

#include <string>
#include <string_view>

#include "judge/finding.hpp"

namespace hptrace {

// "3 Services".
std::string counted(std::size_t count, std::string_view noun);

// "ClusterIP default/mysql-a:mysql", "NodePort": the name where it is known.
std::string kind_and_name(const Service& service);

// "10.96.0.10:3306/tcp (ClusterIP)".
std::string wanted_text(const Service& service);

// "hostPort 3306 of default/mysql-b-0".
std::string taker_text(const Conflict& conflict);

// "CNI-HOSTPORT-DNAT > CNI-DN-bd8e9ce301851b7745b41 (iptables-nft)".
std::string rule_text(const HostPortRule& rule);

}  // namespace hptrace
