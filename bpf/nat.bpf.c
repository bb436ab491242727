// SPDX-License-Identifier: GPL-2.0-only
/*
 * Destination rewrites by netfilter NAT. Every DNAT (iptables-legacy, iptables-nft, native nft, REDIRECT, NETMAP, OVS)
 * goes through nf_nat_setup_info() once per conntrack entry, and so does every connection that no rule rewrites
 * ("null binding"). Userspace picks by trying:
 *   fexit    decide_fexit: direct typed reads only, no bpf_probe_read, so it loads under lockdown=confidentiality
 *   kprobe   stash_kprobe, then decide_kprobe when the entry's reply tuple is rewritten
 *   confirm  stash_kprobe, then decide_at_confirm or decide_at_insert (where nf_conntrack_alter_reply() is inlined)
 *
 * Apart from that, commit_* say that a decision's first packet got through: its entry is in conntrack's table. Entries
 * without a packet (ctnetlink, as `conntrack -I`; BPF programs) get in by nf_conntrack_hash_check_insert().
 *
 * clash_* say that it did not, since another packet of the same connection was faster.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "events.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/* skb->_nfct is the nf_conn's address with enum ip_conntrack_info in its low bits (linux/skbuff.h, NFCT_PTRMASK). */
#define NFCT_PTRMASK (~7UL)

/* UAPI linux/netfilter/nf_nat.h: the head of struct nf_nat_range2. Fixed, hence not looked up in a module's BTF. */
#define NF_NAT_RANGE_MAP_IPS 1
struct nat_range_head {
	__u32 flags;
	__u32 min_addr[4];
	__u32 max_addr[4];
};

/* kprobe modes: conntrack entry that a rule is about to rewrite -> nf_nat_setup_info's range argument. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, HPTRACE_PENDING_ENTRIES);
	__type(key, __u64);
	__type(value, __u64);
} pending SEC(".maps");

/* Works on typed kernel pointers and on copies alike. */
static __always_inline void set_flow(struct flow *flow, const struct nf_conntrack_tuple *original,
				     const struct nf_conntrack_tuple *reply)
{
	__u8 family = original->src.l3num;

	flow->family = family;
	flow->l4proto = original->dst.protonum;
	set_end(&flow->client, family, &original->src.u3, original->src.u.all);
	set_end(&flow->original, family, &original->dst.u3, original->dst.u.all);
	set_end(&flow->rewritten, family, &reply->src.u3, reply->src.u.all);
}

static __always_inline void set_reply_destination(struct hptrace_decision *record,
						  const struct nf_conntrack_tuple *reply)
{
	set_end(&record->reply_dst, record->family, &reply->dst.u3, reply->dst.u.all);
	record->valid |= HPTRACE_VALID_REPLY | HPTRACE_VALID_COMMITTED;
}

/*
 * A decision is final when the function returns: exactly one per entry, since a second one returns NF_DROP. An entry
 * that is confirmed already (older than the NAT hooks) returns NF_ACCEPT with nothing done.
 */
SEC("fexit/nf_nat_setup_info")
int BPF_PROG(decide_fexit, struct nf_conn *ct, const struct nf_nat_range2 *range, enum nf_nat_manip_type manip,
	     unsigned int verdict)
{
	struct hptrace_decision *record;
	struct flow flow = {};
	unsigned long status;
	struct net *net;

	if (manip != NF_NAT_MANIP_DST || verdict != NF_ACCEPT)
		return 0;
	status = ct->status;
	net = ct->ct_net.net;
	if (status & IPS_CONFIRMED || !net)
		return 0;
	flow.netns = net->ns.inum;
	set_flow(&flow, &ct->tuplehash[IP_CT_DIR_ORIGINAL].tuple, &ct->tuplehash[IP_CT_DIR_REPLY].tuple);
	if (!matches_filter(&flow))
		return 0;
	count(HPTRACE_COUNTER_SEEN);
	if (!(status & IPS_DST_NAT))
		return 0;
	count(HPTRACE_COUNTER_REWRITTEN);
	record = reserve_record(HPTRACE_RECORD_DECISION, HPTRACE_MECHANISM_NF_NAT, &flow, HPTRACE_COUNTER_LOST_RING);
	if (!record)
		return 0;
	record->ct = (__u64)ct;
	record->rule_ptr = (__u64)range;
	record->valid = HPTRACE_VALID_RULE;
	if (bpf_core_field_exists(ct->zone))
		record->zone = ct->zone.id;
	submit_record(record);
	return 0;
}

/* The tuples of an entry, copied: pointers made from integers cannot be followed directly. */
struct entry {
	struct nf_conntrack_tuple original;
	struct nf_conntrack_tuple reply;
};

/* The size is the running kernel's: a constant once loaded, and refused by the verifier should it not fit. */
static __always_inline void read_tuple(struct nf_conntrack_tuple *to, const struct nf_conntrack_tuple *from)
{
	bpf_probe_read_kernel(to, bpf_core_type_size(struct nf_conntrack_tuple), from);
}

static __always_inline void read_entry(struct entry *entry, struct flow *flow, const struct nf_conn *ct)
{
	read_tuple(&entry->original, &ct->tuplehash[IP_CT_DIR_ORIGINAL].tuple);
	read_tuple(&entry->reply, &ct->tuplehash[IP_CT_DIR_REPLY].tuple);
	flow->netns = BPF_CORE_READ(ct, ct_net.net, ns.inum);
	set_flow(flow, &entry->original, &entry->reply);
}

static __always_inline void set_zone(struct hptrace_decision *record, const struct nf_conn *ct)
{
	if (bpf_core_field_exists(ct->zone))
		record->zone = BPF_CORE_READ(ct, zone.id);
}

static __always_inline int report(enum hptrace_record_type type, const struct nf_conn *ct)
{
	struct hptrace_decision *record;
	struct entry entry = {};
	struct flow flow = {};

	if (!(BPF_CORE_READ(ct, status) & IPS_DST_NAT))
		return 0;
	read_entry(&entry, &flow, ct);
	if (!matches_filter(&flow))
		return 0;
	record = reserve_record(type, HPTRACE_MECHANISM_NF_NAT, &flow, HPTRACE_COUNTER_LOST_COMMIT);
	if (!record)
		return 0;
	record->ct = (__u64)ct;
	set_zone(record, ct);
	if (type == HPTRACE_RECORD_COMMIT)
		set_reply_destination(record, &entry.reply);
	submit_record(record);
	return 0;
}

static __always_inline int commit(const struct nf_conn *ct)
{
	return report(HPTRACE_RECORD_COMMIT, ct);
}

/* At the return: a lost race against another packet of the same connection is no commit. */
SEC("fexit/__nf_conntrack_confirm")
int BPF_PROG(commit_fexit, struct sk_buff *skb, int verdict)
{
	if (verdict != NF_ACCEPT)
		return 0;
	return commit((const struct nf_conn *)(skb->_nfct & NFCT_PTRMASK));
}

SEC("kprobe/__nf_conntrack_confirm")
int BPF_KPROBE(commit_kprobe, struct sk_buff *skb)
{
	return commit((const struct nf_conn *)(BPF_CORE_READ(skb, _nfct) & NFCT_PTRMASK));
}

SEC("fexit/nf_conntrack_hash_check_insert")
int BPF_PROG(commit_insert_fexit, struct nf_conn *ct, int error)
{
	return error ? 0 : commit(ct);
}

SEC("kprobe/nf_conntrack_hash_check_insert")
int BPF_KPROBE(commit_insert_kprobe, struct nf_conn *ct)
{
	return commit(ct);
}

/* Called by __nf_conntrack_confirm() for the entry that lost. Seldom, hence not inlined by the kernel (__cold
 * noinline). */
SEC("fentry/nf_ct_resolve_clash")
int BPF_PROG(clash_fentry, struct sk_buff *skb)
{
	return report(HPTRACE_RECORD_CLASH, (const struct nf_conn *)(skb->_nfct & NFCT_PTRMASK));
}

SEC("kprobe/nf_ct_resolve_clash")
int BPF_KPROBE(clash_kprobe, struct sk_buff *skb)
{
	return report(HPTRACE_RECORD_CLASH, (const struct nf_conn *)(BPF_CORE_READ(skb, _nfct) & NFCT_PTRMASK));
}

static __always_inline bool is_address(const __u32 *words, const struct nf_conntrack_tuple *tuple)
{
	return words[0] == tuple->src.u3.all[0] &&
	       (tuple->src.l3num == AF_INET || (words[1] == tuple->src.u3.all[1] && words[2] == tuple->src.u3.all[2] &&
						words[3] == tuple->src.u3.all[3]));
}

/* A null binding maps to the address the reply tuple has already, and to no other (nf_nat_alloc_null_binding). */
static __always_inline bool is_null_binding(const struct nf_conntrack_tuple *reply, const struct nat_range_head *range)
{
	return range->flags == NF_NAT_RANGE_MAP_IPS && is_address(range->min_addr, reply) &&
	       is_address(range->max_addr, reply);
}

/* Connections nobody rewrites are only counted; the others wait for decide_kprobe or decide_at_confirm. */
SEC("kprobe/nf_nat_setup_info")
int BPF_KPROBE(stash_kprobe, struct nf_conn *ct, const void *range, enum nf_nat_manip_type manip)
{
	struct nat_range_head head = {};
	struct entry entry = {};
	struct flow flow = {};
	__u64 key = (__u64)ct, rule = (__u64)range;

	if (manip != NF_NAT_MANIP_DST || BPF_CORE_READ(ct, status) & IPS_CONFIRMED)
		return 0;
	read_entry(&entry, &flow, ct);
	bpf_probe_read_kernel(&head, sizeof(head), range);
	if (is_null_binding(&entry.reply, &head)) {
		if (matches_filter(&flow))
			count(HPTRACE_COUNTER_SEEN);
	} else if (bpf_map_update_elem(&pending, &key, &rule, BPF_ANY)) {
		count(HPTRACE_COUNTER_LOST_PENDING);
	}
	return 0;
}

static __always_inline void emit_joined(const struct nf_conn *ct, const struct entry *entry, const struct flow *flow,
					const __u64 *rule, bool final)
{
	struct hptrace_decision *record;

	count(HPTRACE_COUNTER_SEEN);
	count(HPTRACE_COUNTER_REWRITTEN);
	record = reserve_record(HPTRACE_RECORD_DECISION, HPTRACE_MECHANISM_NF_NAT, flow, HPTRACE_COUNTER_LOST_RING);
	if (!record)
		return;
	record->ct = (__u64)ct;
	if (rule) {
		record->rule_ptr = *rule;
		record->valid |= HPTRACE_VALID_RULE;
	}
	set_zone(record, ct);
	if (final)
		set_reply_destination(record, &entry->reply);
	submit_record(record);
}

static __always_inline bool is_rewritten(const struct flow *flow)
{
	const __u32 *from = (const __u32 *)flow->original.ip, *to = (const __u32 *)flow->rewritten.ip;

	/* Without branches: the verifier would follow each of them. */
	return (flow->original.port ^ flow->rewritten.port) | (from[0] ^ to[0]) | (from[1] ^ to[1]) |
	       (from[2] ^ to[2]) | (from[3] ^ to[3]);
}

/*
 * Called for source and destination rewrites, and by IPVS (conntrack=1). Only a destination rewrite has something
 * pending and not yet IPS_DST_NAT_DONE; the pending entry is used once. A rule that changes nothing leaves one behind,
 * for an entry that may get the same memory: of an expected connection the source is rewritten first
 * (nf_nat_follow_master).
 */
SEC("kprobe/nf_conntrack_alter_reply")
int BPF_KPROBE(decide_kprobe, struct nf_conn *ct, const struct nf_conntrack_tuple *reply)
{
	struct entry entry = {};
	struct flow flow = {};
	__u64 key = (__u64)ct, rule, *found;

	found = bpf_map_lookup_elem(&pending, &key);
	if (!found)
		return 0;
	rule = *found;
	bpf_map_delete_elem(&pending, &key);
	if (BPF_CORE_READ(ct, status) & (IPS_CONFIRMED | IPS_DST_NAT_DONE))
		return 0;
	read_entry(&entry, &flow, ct);
	read_tuple(&entry.reply, reply);
	set_flow(&flow, &entry.original, &entry.reply);
	if (is_rewritten(&flow) && matches_filter(&flow))
		emit_joined(ct, &entry, &flow, &rule, false);
	return 0;
}

static __always_inline int decide_committed(const struct nf_conn *ct)
{
	struct entry entry = {};
	struct flow flow = {};
	__u64 key = (__u64)ct, rule, *found;

	found = bpf_map_lookup_elem(&pending, &key);
	if (found) {
		rule = *found;
		bpf_map_delete_elem(&pending, &key);
	}
	if (!(BPF_CORE_READ(ct, status) & IPS_DST_NAT))
		return 0;
	read_entry(&entry, &flow, ct);
	if (matches_filter(&flow))
		emit_joined(ct, &entry, &flow, found ? &rule : NULL, true);
	return 0;
}

SEC("kprobe/__nf_conntrack_confirm")
int BPF_KPROBE(decide_at_confirm, struct sk_buff *skb)
{
	return decide_committed((const struct nf_conn *)(BPF_CORE_READ(skb, _nfct) & NFCT_PTRMASK));
}

SEC("kprobe/nf_conntrack_hash_check_insert")
int BPF_KPROBE(decide_at_insert, struct nf_conn *ct)
{
	return decide_committed(ct);
}
