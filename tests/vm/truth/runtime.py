# SPDX-License-Identifier: GPL-2.0-or-later
"""A container runtime without libcni: calls the CNI plugins of Debian and leaves the cache file libcni would leave."""

import base64
import json
import os

from tier.nodes import Node

CACHE_DIRECTORY = os.environ.get("HPTRACE_CACHE", "/opt/hptrace")


def plugins_folder(version):
    """Where scripts/cni-plugins put this version."""
    return f"{CACHE_DIRECTORY}/cni/{version}/usr/lib/cni"


class DirectNode(Node):
    """version: one of scripts/cni-plugins."""

    def __init__(self, namespace, version, portmap="iptables"):
        super().__init__(namespace, None, plugins_folder(version), portmap, "0.4.0" if version == "0.9" else "1.0.0")

    def _call(self, command, sandbox, mappings, path):
        request = json.loads(sandbox.request(mappings, self._plugins, self.cache))
        cache = f"{self.cache}/results/{self.network}-{sandbox.container_id}-eth0"
        result = None
        if command == "del":
            with open(cache, encoding="ascii") as file:
                result = json.load(file)["result"]
        plugins = self._conflist["plugins"]
        for plugin in plugins if command == "add" else reversed(plugins):
            config = plugin | {key: self._conflist[key] for key in ("cniVersion", "name")}
            if result:
                config["prevResult"] = result
            if "portMappings" in request["capabilityArgs"] and "capabilities" in plugin:
                config["runtimeConfig"] = {"portMappings": [{key[0].lower() + key[1:]: value for key, value in entry.items()}
                                                            for entry in request["capabilityArgs"]["portMappings"]]}
            output = self.namespace.run(
                f"{self._plugins}/{plugin['type']}", stdin=json.dumps(config),
                env={"CNI_COMMAND": command.upper(), "CNI_CONTAINERID": sandbox.container_id, "CNI_IFNAME": "eth0",
                     "CNI_NETNS": request["netns"], "CNI_PATH": self._plugins,
                     "CNI_ARGS": ";".join("=".join(pair) for pair in request["args"]),
                     "PATH": path or os.environ["PATH"]})
            if command == "add":
                result = json.loads(output)
        if command == "del":
            os.unlink(cache)
            return ""
        os.makedirs(os.path.dirname(cache), mode=0o700, exist_ok=True)
        entry = {"kind": "cniCacheV1", "containerId": sandbox.container_id,
                 "config": base64.b64encode(json.dumps(self._conflist).encode()).decode(), "ifName": "eth0",
                 "networkName": self.network, "netns": request["netns"], "cniArgs": request["args"],
                 "capabilityArgs": request["capabilityArgs"], "result": result}
        with open(cache, "w", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            json.dump(entry, file)
        return json.dumps(result)
