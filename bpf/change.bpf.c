// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counts when each source of rules or services begins and finishes changing, all namespaces together. All functions
 * run in process context and rarely. Userspace attaches the ends before the beginnings.
 */
#include "vmlinux.h"
#include <bpf/bpf_tracing.h>

#include "shared.bpf.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline int begin(enum hptrace_source source)
{
	struct hptrace_counters *all = get_counters();

	if (all)
		__sync_fetch_and_add(&all->changes.begin[source], 1);
	return 0;
}

static __always_inline int end(enum hptrace_source source)
{
	struct hptrace_counters *all = get_counters();

	if (all)
		__sync_fetch_and_add(&all->changes.end[source], 1);
	return 0;
}

#define COUNT_CHANGES(function, source)                                                                                \
	SEC("fentry/" #function)                                                                                       \
	int function##_fentry(void *ctx)                                                                               \
	{                                                                                                              \
		return begin(source);                                                                                  \
	}                                                                                                              \
	SEC("fexit/" #function)                                                                                        \
	int function##_fexit(void *ctx)                                                                                \
	{                                                                                                              \
		return end(source);                                                                                    \
	}                                                                                                              \
	SEC("kprobe/" #function)                                                                                       \
	int function##_kprobe(void *ctx)                                                                               \
	{                                                                                                              \
		return begin(source);                                                                                  \
	}                                                                                                              \
	SEC("kretprobe/" #function)                                                                                    \
	int function##_kretprobe(void *ctx)                                                                            \
	{                                                                                                              \
		return end(source);                                                                                    \
	}

COUNT_CHANGES(xt_replace_table, HPTRACE_SOURCE_XTABLES)
COUNT_CHANGES(nf_tables_commit, HPTRACE_SOURCE_NFTABLES)
COUNT_CHANGES(ip_vs_genl_set_cmd, HPTRACE_SOURCE_IPVS)
COUNT_CHANGES(do_ip_vs_set_ctl, HPTRACE_SOURCE_IPVS)
