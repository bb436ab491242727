/* SPDX-License-Identifier: GPL-2.0-only */
/* The user's filter, applied before a ring slot is taken. Its twin for other connections: userspace/capture/filter.cpp.
 */
#ifndef HPTRACE_FILTER_BPF_H
#define HPTRACE_FILTER_BPF_H

#include <bpf/bpf_endian.h>

#include "shared.bpf.h"

/* A section of its own, so that userspace finds exactly this in it. */
const volatile struct hptrace_filter filter SEC(".rodata.filter") = {};

/* What one decision did to the destination. Before or without a rewrite, rewritten equals original. */
struct flow {
	struct hptrace_end client;
	struct hptrace_end original;
	struct hptrace_end rewritten;
	__u32 netns;
	__u8 family;
	__u8 l4proto;
	__u8 reserved[2];
};

/* IPv4 takes the first word only: the rest of the kernel's union may hold anything a rule came with. */
static __always_inline void set_end(struct hptrace_end *end, __u8 family, const union nf_inet_addr *ip, __be16 port)
{
	__u32 *words = (__u32 *)end->ip;

	words[0] = ip->all[0];
	if (family == AF_INET6) {
		words[1] = ip->all[1];
		words[2] = ip->all[2];
		words[3] = ip->all[3];
	}
	end->port = port;
}

static __always_inline bool in_prefix(const volatile struct hptrace_prefix *prefix, __u8 family,
				      const struct hptrace_end *end)
{
	const volatile __u32 *net = (const volatile __u32 *)prefix->ip;
	const volatile __u32 *mask = (const volatile __u32 *)prefix->mask;
	const __u32 *ip = (const __u32 *)end->ip;

	return prefix->family == family && !((ip[0] ^ net[0]) & mask[0]) && !((ip[1] ^ net[1]) & mask[1]) &&
	       !((ip[2] ^ net[2]) & mask[2]) && !((ip[3] ^ net[3]) & mask[3]);
}

static __always_inline bool port_wanted(__u16 port)
{
	if (!filter.port_count)
		return true;
	for (__u32 i = 0; i < HPTRACE_FILTER_PORTS; i++) {
		if (i >= filter.port_count)
			break;
		if (port >= filter.ports[i].first && port <= filter.ports[i].last)
			return true;
	}
	return false;
}

static __always_inline bool protocol_wanted(__u8 l4proto)
{
	/* Services and hostPorts have no others. */
	if (l4proto != IPPROTO_TCP && l4proto != IPPROTO_UDP && l4proto != IPPROTO_SCTP)
		return false;
	if (!filter.proto_count)
		return true;
	for (__u32 i = 0; i < sizeof(filter.protos); i++) {
		if (i >= filter.proto_count)
			break;
		if (l4proto == filter.protos[i])
			return true;
	}
	return false;
}

static __always_inline bool matches_filter(const struct flow *flow)
{
	if (flow->family != AF_INET && flow->family != AF_INET6)
		return false;
	if (filter.family && filter.family != flow->family)
		return false;
	if (filter.netns && filter.netns != flow->netns)
		return false;
	if (!protocol_wanted(flow->l4proto) || !port_wanted(bpf_ntohs(flow->original.port)))
		return false;
	if (filter.source.family && !in_prefix(&filter.source, flow->family, &flow->client))
		return false;
	if (filter.dest.family && !in_prefix(&filter.dest, flow->family, &flow->original) &&
	    !in_prefix(&filter.dest, flow->family, &flow->rewritten))
		return false;
	return true;
}

#endif /* HPTRACE_FILTER_BPF_H */
