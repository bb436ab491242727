// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counts when each source of rules or services of a network namespace begins and finishes changing. All functions run
 * in process context and rarely. Userspace attaches the ends before the beginnings.
 *
 * Which namespace: nf_tables_commit() is told, ip_vs has the socket that asks. xt_replace_table() gets only the table,
 * which does not lead to its namespace; but whoever replaces one has locked it by xt_request_find_table_lock(), which
 * is told (ip_tables, ip6_tables and arp_tables: __do_replace()). Hence what matters is the namespace of the socket
 * that asks, as it does in the kernel, and not that of the task, which may have changed it since, or have got the
 * socket from another one. What makes a table without having looked for it (iptable_nat when it is loaded, up to 5.14)
 * is not attributed, and counts for all.
 *
 * The end must count where the beginning did. fexit programs have the arguments at the return; what kretprobes would
 * not know any more is remembered by task.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "shared.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/* The namespace that a task is changing a source of. The oldest are forgotten: those of tasks whose end was missed. */
struct change {
	__u64 task; /* bpf_get_current_pid_tgid() */
	__u64 source;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, HPTRACE_CHANGING_TASKS);
	__type(key, struct change);
	__type(value, __u32);
} changing SEC(".maps");

/* No namespace: it cannot be told. */
#define UNKNOWN 0

static __always_inline struct change change_of(enum hptrace_source source)
{
	return (struct change){.task = bpf_get_current_pid_tgid(), .source = source};
}

/* Returns what recall() will. */
static __always_inline __u32 remember(enum hptrace_source source, __u32 netns)
{
	struct change key = change_of(source);

	return bpf_map_update_elem(&changing, &key, &netns, BPF_ANY) ? UNKNOWN : netns;
}

static __always_inline __u32 recall(enum hptrace_source source)
{
	struct change key = change_of(source);
	__u32 *netns = bpf_map_lookup_elem(&changing, &key);

	return netns ? *netns : UNKNOWN;
}

static __always_inline int forget(enum hptrace_source source)
{
	struct change key = change_of(source);

	bpf_map_delete_elem(&changing, &key);
	return 0;
}

static __always_inline struct hptrace_changes *changes_of(__u32 netns)
{
	struct hptrace_counters *all = get_counters();

	if (!all)
		return NULL;
	return netns == UNKNOWN ? &all->changes_anywhere : &all->changes[hptrace_change_slot(netns)];
}

static __always_inline int begin(enum hptrace_source source, __u32 netns)
{
	struct hptrace_changes *changes = changes_of(netns);

	if (changes)
		__sync_fetch_and_add(&changes->begin[source], 1);
	return 0;
}

static __always_inline int end(enum hptrace_source source, __u32 netns)
{
	struct hptrace_changes *changes = changes_of(netns);

	if (changes)
		__sync_fetch_and_add(&changes->end[source], 1);
	return 0;
}

/* For fentry and fexit: nothing but typed reads, so that they load under lockdown=confidentiality. */
static __always_inline __u32 inode_of(const struct net *net)
{
	return net ? net->ns.inum : UNKNOWN;
}

static __always_inline __u32 netns_of(const struct sock *sk)
{
	return sk ? inode_of(sk->__sk_common.skc_net.net) : UNKNOWN;
}

/* For kprobes. */
static __always_inline __u32 read_inode_of(const struct net *net)
{
	return BPF_CORE_READ(net, ns.inum);
}

static __always_inline __u32 read_netns_of(const struct sock *sk)
{
	return read_inode_of(BPF_CORE_READ(sk, __sk_common.skc_net.net));
}

/* argument: the first that leads to the namespace, and those before it; typed, read: the inode number of it. */
#define COUNT_CHANGES(function, source, typed, read, ...)                                                              \
	SEC("fentry/" #function)                                                                                       \
	int BPF_PROG(function##_fentry, __VA_ARGS__)                                                                   \
	{                                                                                                              \
		return begin(source, typed);                                                                           \
	}                                                                                                              \
	SEC("fexit/" #function)                                                                                        \
	int BPF_PROG(function##_fexit, __VA_ARGS__)                                                                    \
	{                                                                                                              \
		return end(source, typed);                                                                             \
	}                                                                                                              \
	SEC("kprobe/" #function)                                                                                       \
	int BPF_KPROBE(function##_kprobe, __VA_ARGS__)                                                                 \
	{                                                                                                              \
		return begin(source, remember(source, read));                                                          \
	}                                                                                                              \
	SEC("kretprobe/" #function)                                                                                    \
	int function##_kretprobe(void *ctx)                                                                            \
	{                                                                                                              \
		__u32 netns = recall(source);                                                                          \
                                                                                                                       \
		forget(source);                                                                                        \
		return end(source, netns);                                                                             \
	}

COUNT_CHANGES(nf_tables_commit, HPTRACE_SOURCE_NFTABLES, inode_of(net), read_inode_of(net), struct net *net)
/* The message's socket, as ip_vs_genl_set_cmd() itself finds the namespace. */
COUNT_CHANGES(ip_vs_genl_set_cmd, HPTRACE_SOURCE_IPVS, netns_of(skb->sk), read_netns_of(BPF_CORE_READ(skb, sk)),
	      struct sk_buff *skb)
COUNT_CHANGES(do_ip_vs_set_ctl, HPTRACE_SOURCE_IPVS, netns_of(sk), read_netns_of(sk), struct sock *sk)

/* While its table is locked, a task replaces it once at most; making it comes first, in the same namespace. */
#define COUNT_REPLACEMENT(section, name, count)                                                                        \
	SEC(section "/xt_replace_table")                                                                               \
	int xt_replace_table_##name(void *ctx)                                                                         \
	{                                                                                                              \
		return count(HPTRACE_SOURCE_XTABLES, recall(HPTRACE_SOURCE_XTABLES));                                  \
	}

COUNT_REPLACEMENT("fentry", fentry, begin)
COUNT_REPLACEMENT("fexit", fexit, end)
COUNT_REPLACEMENT("kprobe", kprobe, begin)
COUNT_REPLACEMENT("kretprobe", kretprobe, end)

SEC("fentry/xt_request_find_table_lock")
int BPF_PROG(xt_request_find_table_lock_fentry, struct net *net)
{
	remember(HPTRACE_SOURCE_XTABLES, inode_of(net));
	return 0;
}

SEC("kprobe/xt_request_find_table_lock")
int BPF_KPROBE(xt_request_find_table_lock_kprobe, struct net *net)
{
	remember(HPTRACE_SOURCE_XTABLES, read_inode_of(net));
	return 0;
}

SEC("fentry/xt_table_unlock")
int xt_table_unlock_fentry(void *ctx)
{
	return forget(HPTRACE_SOURCE_XTABLES);
}

SEC("kprobe/xt_table_unlock")
int xt_table_unlock_kprobe(void *ctx)
{
	return forget(HPTRACE_SOURCE_XTABLES);
}
