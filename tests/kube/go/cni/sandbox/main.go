// SPDX-License-Identifier: GPL-2.0-or-later

// Command sandbox attaches a network namespace to a CNI network through libcni, as a container runtime does: the
// plugins' arguments and the cache file under the results folder are libcni's own. (cnitool cannot be told the id.)
//
// Usage: sandbox add|del CONFLIST < REQUEST     where REQUEST is the JSON of `request`; add prints the result.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
)

type request struct {
	ContainerID    string                 `json:"containerId"`
	NetNS          string                 `json:"netns"`
	Args           [][2]string            `json:"args"`
	CapabilityArgs map[string]interface{} `json:"capabilityArgs"`
	PluginPath     string                 `json:"pluginPath"`
	CacheDir       string                 `json:"cacheDir"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 3 {
		return fmt.Errorf("usage: sandbox add|del CONFLIST < REQUEST")
	}
	network, err := libcni.ConfListFromFile(os.Args[2])
	if err != nil {
		return err
	}
	var r request
	if err := json.NewDecoder(os.Stdin).Decode(&r); err != nil {
		return err
	}
	cni := libcni.NewCNIConfigWithCacheDir(filepath.SplitList(r.PluginPath), r.CacheDir, nil)
	runtime := &libcni.RuntimeConf{ContainerID: r.ContainerID, NetNS: r.NetNS, IfName: "eth0", Args: r.Args,
		CapabilityArgs: r.CapabilityArgs}
	switch os.Args[1] {
	case "add":
		result, err := cni.AddNetworkList(context.Background(), network, runtime)
		if err != nil {
			return err
		}
		return result.Print()
	case "del":
		return cni.DelNetworkList(context.Background(), network, runtime)
	}
	return fmt.Errorf("unknown command %q", os.Args[1])
}
