/* SPDX-License-Identifier: GPL-2.0-only */
/* The ring of records: reserve_record(), fill in what only the caller knows, submit_record(). */
#ifndef HPTRACE_EVENTS_BPF_H
#define HPTRACE_EVENTS_BPF_H

#include "filter.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, HPTRACE_RING_BYTES);
} events SEC(".maps");

/* Of the namespace. Ends are read before begins: a change that falls between the two reads then shows as under way,
 * never as over. */
static __always_inline void copy_changes(struct hptrace_changes *to, __u32 netns)
{
	struct hptrace_counters *all = get_counters();

	if (!all)
		return;
	const volatile struct hptrace_changes *anywhere = &all->changes_anywhere;
	const volatile struct hptrace_changes *here = &all->changes[hptrace_change_slot(netns)];

#pragma unroll
	for (int i = 0; i < HPTRACE_SOURCES; i++)
		to->end[i] = anywhere->end[i] + here->end[i];
#pragma unroll
	for (int i = 0; i < HPTRACE_SOURCES; i++)
		to->begin[i] = anywhere->begin[i] + here->begin[i];
}

/* A record with everything that `flow` knows, the rest zero; NULL, and counted as `lost`, if the ring is full. */
static __always_inline struct hptrace_decision *reserve_record(enum hptrace_record_type type,
							       enum hptrace_mechanism mechanism,
							       const struct flow *flow, enum hptrace_counter lost)
{
	struct hptrace_decision *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);

	if (!record) {
		count(lost);
		return NULL;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record->header.type = type;
	record->header.size = sizeof(*record);
	record->header.netns = flow->netns;
	record->header.boot_ns = bpf_ktime_get_boot_ns();
	copy_changes(&record->header.changes, flow->netns);
	record->mechanism = mechanism;
	record->client = flow->client;
	record->original = flow->original;
	record->rewritten = flow->rewritten;
	record->family = flow->family;
	record->l4proto = flow->l4proto;
	return record;
}

/*
 * A wake-up costs more than all the rest of a record (an inter-processor interrupt in the path of the packet), and
 * userspace looks at the ring periodically anyway: wake it only when a burst fills the ring faster than that.
 */
static __always_inline void submit_record(struct hptrace_decision *record)
{
	__u64 waiting = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);

	bpf_ringbuf_submit(record, waiting >= HPTRACE_RING_WAKEUP_BYTES ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

#endif /* HPTRACE_EVENTS_BPF_H */
