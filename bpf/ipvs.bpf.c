// SPDX-License-Identifier: GPL-2.0-only
/*
 * Connections that IPVS scheduled to a real server. ip_vs_schedule() returns one only for a packet that was really
 * scheduled; ip_vs_conn_new(), the fallback, has callers that create other entries, which it must tell apart. Userspace
 * picks by trying:
 *   fexit   schedule_fexit
 *   kprobe  conn_new_kprobe
 *   fixed   schedule_fixed and conn_new_fixed: kernels whose modules have no BTF (before 5.11, kernel commit
 *           36e68442d1af, "bpf: Load and verify kernel module BTFs"), so that CO-RE knows no type of ip_vs
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "events.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/* UAPI linux/ip_vs.h */
#define IP_VS_CONN_F_FWD_MASK 0x0007
#define IP_VS_CONN_F_MASQ 0x0000
#define IP_VS_CONN_F_BYPASS 0x0004
#define IP_VS_CONN_F_SYNC 0x0020
#define IP_VS_CONN_F_NO_CPORT 0x0800
#define IP_VS_CONN_F_TEMPLATE 0x1000
#define IP_VS_CONN_F_ONE_PACKET 0x2000

static __always_inline void report(const struct flow *flow, __u32 flags, __u32 fwmark)
{
	struct hptrace_decision *record;

	if (!matches_filter(flow))
		return;
	count(HPTRACE_COUNTER_IPVS);
	if (flags & IP_VS_CONN_F_ONE_PACKET) {
		count(HPTRACE_COUNTER_IPVS_ONE_PACKET);
		return;
	}
	if ((flags & IP_VS_CONN_F_FWD_MASK) != IP_VS_CONN_F_MASQ) {
		count(HPTRACE_COUNTER_IPVS_NOT_REWRITTEN);
		return;
	}
	record = reserve_record(HPTRACE_RECORD_DECISION, HPTRACE_MECHANISM_IP_VS, flow, HPTRACE_COUNTER_LOST_RING);
	if (!record)
		return;
	record->fwmark = fwmark;
	record->fwd_method = flags & IP_VS_CONN_F_FWD_MASK;
	submit_record(record);
}

/* Direct typed reads: libbpf adapts their width, too (af is u16 up to 6.12 and u8 later). */
SEC("fexit/ip_vs_schedule")
int BPF_PROG(schedule_fexit, struct ip_vs_service *svc, struct sk_buff *skb, struct ip_vs_proto_data *pd, int *ignored,
	     struct ip_vs_iphdr *iph, struct ip_vs_conn *cp)
{
	struct flow flow = {};
	struct netns_ipvs *ipvs;
	struct net *net;

	if (!cp)
		return 0;
	ipvs = cp->ipvs;
	if (!ipvs)
		return 0;
	net = ipvs->net;
	if (!net)
		return 0;
	flow.netns = net->ns.inum;
	flow.family = cp->af;
	flow.l4proto = cp->protocol;
	set_end(&flow.client, flow.family, &cp->caddr, cp->cport);
	set_end(&flow.original, flow.family, &cp->vaddr, cp->vport);
	set_end(&flow.rewritten, flow.family, &cp->daddr, cp->dport);
	report(&flow, cp->flags, cp->fwmark);
	return 0;
}

static __always_inline void read_end(struct hptrace_end *end, __u8 family, const union nf_inet_addr *ip, __be16 port)
{
	if (family == AF_INET6)
		bpf_probe_read_kernel(end->ip, 16, ip);
	else
		bpf_probe_read_kernel(end->ip, 4, ip);
	end->port = port;
}

/* Not reported: templates of persistent services, entries of another director (sync), data connections foreseen by a
 * helper, and cache_bypass. */
static __always_inline bool is_scheduled(const void *dest, __u32 flags)
{
	return dest && !(flags & (IP_VS_CONN_F_TEMPLATE | IP_VS_CONN_F_SYNC | IP_VS_CONN_F_NO_CPORT)) &&
	       (flags & IP_VS_CONN_F_FWD_MASK) != IP_VS_CONN_F_BYPASS;
}

/* Everything is in the arguments, so there is no need to see the return. */
SEC("kprobe/ip_vs_conn_new")
int BPF_KPROBE(conn_new_kprobe, const struct ip_vs_conn_param *p, int dest_af, const union nf_inet_addr *daddr,
	       __u32 dport, __u32 flags, struct ip_vs_dest *dest)
{
	struct flow flow = {};

	if (!is_scheduled(dest, flags))
		return 0;
	flow.netns = BPF_CORE_READ(p, ipvs, net, ns.inum);
	flow.family = BPF_CORE_READ_BITFIELD_PROBED(p, af);
	flow.l4proto = BPF_CORE_READ(p, protocol);
	read_end(&flow.client, flow.family, BPF_CORE_READ(p, caddr), BPF_CORE_READ(p, cport));
	read_end(&flow.original, flow.family, BPF_CORE_READ(p, vaddr), BPF_CORE_READ(p, vport));
	read_end(&flow.rewritten, flow.family, daddr, dport);
	/* The forwarding method comes from the destination: ip_vs_bind_dest adds it to the flags. */
	flags |= BPF_CORE_READ(dest, conn_flags.counter) & IP_VS_CONN_F_FWD_MASK;
	report(&flow, flags, BPF_CORE_READ(dest, vfwmark));
	return 0;
}

/* struct ip_vs_conn_param (net/ip_vs.h): the same from 5.10 to 7.3. */
struct fixed_conn_param {
	__u64 ipvs;
	const union nf_inet_addr *caddr;
	const union nf_inet_addr *vaddr;
	__be16 cport;
	__be16 vport;
	__u16 protocol;
	__u16 af;
};
/* Of struct ip_vs_dest (net/ip_vs.h): its first 60 bytes are the same from 5.10 to 7.3. */
#define FIXED_DEST_CONN_FLAGS 56

/* struct netns_ipvs * -> inode number of its network namespace. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u32);
} ipvs_netns SEC(".maps");

/* Where netns_ipvs points to its namespace depends on how the kernel was configured; struct net points to netns_ipvs,
 * and the packet leads to struct net. A packet of the node's own has no device yet. */
SEC("kprobe/ip_vs_schedule")
int BPF_KPROBE(schedule_fixed, void *svc, struct sk_buff *skb)
{
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	struct sock *sk = BPF_CORE_READ(skb, sk);
	struct dst_entry *dst;
	struct net *net;
	__u64 ipvs;
	__u32 inode;

	if (dev) {
		net = BPF_CORE_READ(dev, nd_net.net);
	} else if (sk) {
		net = BPF_CORE_READ(sk, __sk_common.skc_net.net);
	} else {
		/* The lowest bit says that the reference is not counted (SKB_DST_NOREF). */
		dst = (struct dst_entry *)(BPF_CORE_READ(skb, _skb_refdst) & ~1UL);
		net = BPF_CORE_READ(dst, dev, nd_net.net);
	}
	ipvs = (__u64)BPF_CORE_READ(net, ipvs);
	inode = BPF_CORE_READ(net, ns.inum);
	bpf_map_update_elem(&ipvs_netns, &ipvs, &inode, BPF_ANY);
	return 0;
}

SEC("kprobe/ip_vs_conn_new")
int BPF_KPROBE(conn_new_fixed, const void *p, int dest_af, const union nf_inet_addr *daddr, __u32 dport, __u32 flags,
	       const void *dest)
{
	struct fixed_conn_param param = {};
	struct flow flow = {};
	__u32 *inode, method = 0, fwmark = 0;

	if (!is_scheduled(dest, flags))
		return 0;
	bpf_probe_read_kernel(&param, sizeof(param), p);
	inode = bpf_map_lookup_elem(&ipvs_netns, &param.ipvs);
	if (!inode) {
		count(HPTRACE_COUNTER_LOST_PENDING);
		return 0;
	}
	flow.netns = *inode;
	flow.family = param.af;
	flow.l4proto = param.protocol;
	read_end(&flow.client, flow.family, param.caddr, param.cport);
	read_end(&flow.original, flow.family, param.vaddr, param.vport);
	read_end(&flow.rewritten, flow.family, daddr, dport);
	bpf_probe_read_kernel(&method, sizeof(method), dest + FIXED_DEST_CONN_FLAGS);
#ifdef __TARGET_ARCH_x86
	/* The seventh argument: above the return address. */
	bpf_probe_read_kernel(&fwmark, sizeof(fwmark), (const void *)PT_REGS_SP(ctx) + 8);
#else
	fwmark = PT_REGS_PARM7(ctx);
#endif
	report(&flow, flags | (method & IP_VS_CONN_F_FWD_MASK), fwmark);
	return 0;
}
