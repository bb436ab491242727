// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <span>
#include <vector>

#include "state/host_local.hpp"
#include "state/kubelet_pods.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// Puts together what the node says of its sandboxes, in the order NodeState::sandboxes wants. Rather no name than a
// wrong one:
// - The libcni cache comes first: nothing renames what it has a name for.
// - host-local adds containers the cache does not know. In their own network it also tells that an address is
//   another container's since the cache entry was written: that one has it no more.
// - kubelet names the pod of an address, and so of the container that has it, where the cache does not. Pods that have
//   ended keep their hosts file. So it must have been written since the container got the address; two pods
//   that claim this are none. Where no container is known only one pod may claim the address, as pods choose the times
//   of their files too, and not one that host-local gives out the addresses around and would know.
// - A pod can write to the file that kubelet names it by. So what comes from there is marked, and nothing comes from a
// pod
//   whose addresses the cache knows.
std::vector<Sandbox> put_together(std::vector<Sandbox> cached, std::span<const Reservation> reservations,
                                  std::span<const KubeletPod> pods);

}  // namespace hptrace
