/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What every object shares with userspace: the maps (created once by userspace, reused by every object) and the way a
 * record gets into the ring. Include after vmlinux.h.
 */
#ifndef HPTRACE_SHARED_BPF_H
#define HPTRACE_SHARED_BPF_H

#include <bpf/bpf_helpers.h>

#include "hptrace/record.h"

/* Macros in the kernel, so not in its BTF. UAPI: linux/socket.h, linux/in.h, linux/netfilter.h. */
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_SCTP 132
#define NF_ACCEPT 1

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hptrace_counters);
} counters SEC(".maps");

static __always_inline struct hptrace_counters *get_counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

static __always_inline void count(enum hptrace_counter counter)
{
	struct hptrace_counters *all = get_counters();

	if (all)
		__sync_fetch_and_add(&all->count[counter], 1);
}

#endif /* HPTRACE_SHARED_BPF_H */
