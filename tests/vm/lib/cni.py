# SPDX-License-Identifier: GPL-2.0-or-later
"""What a container runtime without libcni needs: calling a CNI plugin, and the cache file libcni leaves."""

import base64
import json
import os


def call_plugin(namespace, program, command, container_id, netns, config, path, arguments=()):
    """Runs the plugin in a node's namespace; command: ADD or DEL; path: PATH, which decides the iptables it finds;
    arguments: pairs of CNI_ARGS. Returns its result as text."""
    return namespace.run(program, stdin=json.dumps(config),
                         env={"CNI_COMMAND": command, "CNI_CONTAINERID": container_id, "CNI_IFNAME": "eth0",
                              "CNI_NETNS": netns, "CNI_PATH": os.path.dirname(program), "PATH": path,
                              "CNI_ARGS": ";".join("=".join(pair) for pair in arguments)})


def cache_file(folder, network, container_id):
    return f"{folder}/{network}-{container_id}-eth0"


def write_cache(folder, config, container_id, netns, arguments, capabilities, result):
    """The cniCacheV1 file of libcni (api.go cacheAdd). config: the network's, with its name."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    entry = {"kind": "cniCacheV1", "containerId": container_id,
             "config": base64.b64encode(json.dumps(config).encode()).decode(), "ifName": "eth0",
             "networkName": config["name"], "netns": netns, "cniArgs": arguments, "capabilityArgs": capabilities,
             "result": result}
    with open(cache_file(folder, config["name"], container_id), "w", encoding="utf-8",
              opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        json.dump(entry, file)
