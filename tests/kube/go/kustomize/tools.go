// SPDX-License-Identifier: GPL-2.0-or-later
//go:build tools

// Package tools pins the program that renders deploy/kubernetes.
package tools

import (
	_ "sigs.k8s.io/kustomize/kustomize/v5"
)
