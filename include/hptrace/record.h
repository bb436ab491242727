/* SPDX-License-Identifier: GPL-2.0-only OR GPL-2.0-or-later */
/*
 * The records and shared-memory layouts that bpf/ and userspace/capture/ have in common.
 *
 * Valid C (BPF) and C++. Fixed layout, no implicit padding; every size is asserted below. Addresses and
 * ports are in network byte order as the kernel's tuples hold them; everything else is in host order.
 * The includer provides __u8 … __u64 and __be16 (linux/types.h, or vmlinux.h in BPF).
 */
#ifndef HPTRACE_RECORD_H
#define HPTRACE_RECORD_H

#ifdef __cplusplus
#include <linux/types.h>
#define HPTRACE_ASSERT(cond, text) static_assert(cond, text)
extern "C" {
#else
#define HPTRACE_ASSERT(cond, text) _Static_assert(cond, text)
#endif

/* Room for some 5,000 records. Userspace empties the ring periodically; it is woken when this much waits. */
#define HPTRACE_RING_BYTES (1024 * 1024)
#define HPTRACE_RING_WAKEUP_BYTES (HPTRACE_RING_BYTES / 8)

/* kprobe modes: decisions under way at the same time, with room to spare: an LRU map evicts in batches. */
#define HPTRACE_PENDING_ENTRIES 16384

/* Tasks that change rules or Services at the same time, with room to spare likewise. */
#define HPTRACE_CHANGING_TASKS 1024

/* Sources whose changes are counted by bpf/change.bpf.c, index into hptrace_changes. */
enum hptrace_source {
	HPTRACE_SOURCE_XTABLES = 0,  /* xt_replace_table: iptables-legacy, v4 and v6 */
	HPTRACE_SOURCE_NFTABLES = 1, /* nf_tables_commit: native nft and iptables-nft */
	HPTRACE_SOURCE_IPVS = 2,     /* ip_vs_genl_set_cmd, do_ip_vs_set_ctl */
	HPTRACE_SOURCE_RESERVED = 3,
	HPTRACE_SOURCES = 4,
};

/*
 * How often each source of a network namespace began and finished changing since hptrace attached.
 * begin != end: a change is under way, and a reader may see either state.
 */
struct hptrace_changes {
	__u32 begin[HPTRACE_SOURCES];
	__u32 end[HPTRACE_SOURCES];
};
HPTRACE_ASSERT(sizeof(struct hptrace_changes) == 32, "hptrace_changes layout");

enum hptrace_record_type {
	HPTRACE_RECORD_DECISION = 1, /* struct hptrace_decision */
	HPTRACE_RECORD_COMMIT = 2, /* struct hptrace_decision of a conntrack entry just confirmed: final reply tuple */
	HPTRACE_RECORD_CLASH = 3,  /* struct hptrace_decision of an entry whose connection conntrack has already */
};

struct hptrace_header {
	__u16 type;			/* enum hptrace_record_type */
	__u16 size;			/* of the whole record, bytes */
	__u32 netns;			/* inode number of the network namespace */
	__u64 boot_ns;			/* CLOCK_BOOTTIME */
	struct hptrace_changes changes; /* of that namespace, at the moment of the decision */
};
HPTRACE_ASSERT(sizeof(struct hptrace_header) == 48, "hptrace_header layout");

enum hptrace_mechanism {
	HPTRACE_MECHANISM_NF_NAT = 1,
	HPTRACE_MECHANISM_IP_VS = 2,
};

/* Which optional fields of a decision hold a true value. */
enum hptrace_valid {
	HPTRACE_VALID_HOOK = 1 << 0,
	HPTRACE_VALID_PID = 1 << 1,   /* pid and comm: process context only */
	HPTRACE_VALID_RULE = 1 << 2,  /* rule_ptr is nf_nat_setup_info's range argument */
	HPTRACE_VALID_REPLY = 1 << 3, /* reply_dst is final (source NAT included) */
	HPTRACE_VALID_COMMITTED =
	    1 << 4, /* seen where entries get into conntrack's table: the first packet got through */
};

/* One tuple end. IPv4 addresses use the first four bytes, the rest is zero (union nf_inet_addr). */
struct hptrace_end {
	__u8 ip[16];
	__be16 port;
	__u16 reserved;
};
HPTRACE_ASSERT(sizeof(struct hptrace_end) == 20, "hptrace_end layout");

struct hptrace_decision {
	struct hptrace_header header;
	__u64 ct;	/* address of the nf_conn: joins records of one decision, never a lasting id; 0 for ip_vs */
	__u64 rule_ptr; /* xtables DNAT: the rule's targinfo, under header.changes only; else no rule's */
	struct hptrace_end client;    /* original tuple, source */
	struct hptrace_end original;  /* original tuple, destination */
	struct hptrace_end rewritten; /* reply tuple, source: the new destination */
	struct hptrace_end reply_dst; /* reply tuple, destination: what the server takes for the client */
	__u32 valid;		      /* enum hptrace_valid bits */
	__u32 pid;		      /* thread group id in the initial pid namespace */
	char comm[16];
	__u32 fwmark;	 /* ip_vs fwmark service, else 0 */
	__u16 zone;	 /* conntrack zone id */
	__u8 family;	 /* AF_INET, AF_INET6 */
	__u8 l4proto;	 /* IPPROTO_* */
	__u8 mechanism;	 /* enum hptrace_mechanism */
	__u8 fwd_method; /* ip_vs: IP_VS_CONN_F_FWD_MASK bits (0 masquerade, 1 local, 2 tunnel, 3 direct route) */
	__u8 hook;	 /* enum nf_inet_hooks */
	__u8 reserved[5];
};
HPTRACE_ASSERT(sizeof(struct hptrace_decision) == 184, "hptrace_decision layout");

/* Places where something can go uncounted into a finding; one counter each. */
enum hptrace_counter {
	HPTRACE_COUNTER_SEEN = 0,		/* DST decisions that match the filter, rewritten or not */
	HPTRACE_COUNTER_REWRITTEN = 1,		/* of those: rewritten, a record was wanted */
	HPTRACE_COUNTER_LOST_RING = 2,		/* ring buffer full: decision lost */
	HPTRACE_COUNTER_LOST_COMMIT = 3,	/* ring buffer full: commit record lost (the connection is shown) */
	HPTRACE_COUNTER_IPVS = 4,		/* ip_vs schedulings that match the filter */
	HPTRACE_COUNTER_IPVS_ONE_PACKET = 5,	/* one-packet scheduling: counted, never a record */
	HPTRACE_COUNTER_IPVS_NOT_REWRITTEN = 6, /* direct routing, tunnel, local node */
	HPTRACE_COUNTER_CACHE_HIT = 7,		/* silent because the verdict cache says fine */
	HPTRACE_COUNTER_LOST_PENDING = 8,	/* kprobe mode: no place to remember the rule of a decision */
	HPTRACE_COUNTERS = 16,
};

/*
 * Changes are counted per network namespace, in one of so many slots. Inode numbers of namespaces come in steps (they
 * share their numbers with other namespaces and with files of /proc: proc_alloc_inum()), and multiplying by 2^32
 * divided by the golden ratio spreads any such sequence evenly. Two namespaces that share a slot all the same count
 * each other's changes: that costs reads of the state, and is never wrong.
 */
#define HPTRACE_CHANGE_SLOT_BITS 12
#define HPTRACE_CHANGE_SLOTS (1 << HPTRACE_CHANGE_SLOT_BITS)
static inline __u32 hptrace_change_slot(__u32 netns)
{
	return netns * 2654435769U >> (32 - HPTRACE_CHANGE_SLOT_BITS);
}

/* The one value of the mmap'd array map `counters`. Per-counter atomic adds; read without syscalls. */
struct hptrace_counters {
	/* Changes that cannot be attributed to a namespace: they count for every one. What a namespace has seen change
	 * is the sum of these and of its slot. */
	struct hptrace_changes changes_anywhere;
	__u64 count[HPTRACE_COUNTERS];
	struct hptrace_changes changes[HPTRACE_CHANGE_SLOTS]; /* by hptrace_change_slot() */
};
HPTRACE_ASSERT(sizeof(struct hptrace_counters) == 160 + 32 * HPTRACE_CHANGE_SLOTS, "hptrace_counters layout");

/* The verdict cache (map `cache`, mmap'd): connections judged plainly fine. Empty (netns 0) entries never hit. */
#define HPTRACE_CACHE_SLOTS 4096 /* power of two */
struct hptrace_cache_slot {
	__u32 sequence; /* odd while userspace writes */
	__u32 netns;
	__u64 rule_ptr;
	struct hptrace_end original;
	struct hptrace_end rewritten;
	struct hptrace_changes changes;
	__u8 l4proto;
	__u8 family;
	__u8 reserved[6];
};
HPTRACE_ASSERT(sizeof(struct hptrace_cache_slot) == 96, "hptrace_cache_slot layout");

/* Filter in rodata: everything zero means "no restriction". Applied before a ring slot is reserved. */
#define HPTRACE_FILTER_PORTS 32
struct hptrace_port_range {
	__u16 first, last; /* host order, inclusive */
};
struct hptrace_prefix {
	__u8 ip[16];
	__u8 mask[16];
	__u8 family; /* 0: no restriction */
	__u8 reserved[3];
};
struct hptrace_filter {
	__u32 netns; /* 0: all */
	__u32 port_count;
	struct hptrace_port_range ports[HPTRACE_FILTER_PORTS]; /* original destination port */
	struct hptrace_prefix dest;			       /* original or rewritten destination */
	struct hptrace_prefix source;			       /* client */
	__u8 family;					       /* AF_INET, AF_INET6 or 0 */
	__u8 proto_count;
	__u8 protos[6];
};
HPTRACE_ASSERT(sizeof(struct hptrace_filter) == 216, "hptrace_filter layout");

#ifdef __cplusplus
} /* extern "C" */
#endif
#undef HPTRACE_ASSERT
#endif /* HPTRACE_RECORD_H */
