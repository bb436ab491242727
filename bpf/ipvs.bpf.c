// SPDX-License-Identifier: GPL-2.0-only
/*
 * Connections that IPVS scheduled to a real server. ip_vs_schedule() returns one only for a packet that was really
 * scheduled; ip_vs_conn_new(), the fallback, has callers that create other entries, which it must tell apart.
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

/*
 * Everything is in the arguments, so there is no need to see the return. Not reported: templates of persistent
 * services, entries of another director (sync), data connections foreseen by a helper, and cache_bypass.
 */
SEC("kprobe/ip_vs_conn_new")
int BPF_KPROBE(conn_new_kprobe, const struct ip_vs_conn_param *p, int dest_af, const union nf_inet_addr *daddr,
	       __u32 dport, __u32 flags, struct ip_vs_dest *dest)
{
	struct flow flow = {};

	if (!dest || flags & (IP_VS_CONN_F_TEMPLATE | IP_VS_CONN_F_SYNC | IP_VS_CONN_F_NO_CPORT) ||
	    (flags & IP_VS_CONN_F_FWD_MASK) == IP_VS_CONN_F_BYPASS)
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
