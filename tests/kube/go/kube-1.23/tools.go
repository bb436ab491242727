// SPDX-License-Identifier: GPL-2.0-or-later
//go:build tools

// Package tools pins the programs of the kube test tier.
package tools

import _ "k8s.io/kubernetes/cmd/kube-proxy"
