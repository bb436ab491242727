# SPDX-License-Identifier: GPL-2.0-or-later
"""A container runtime without libcni: calls the CNI plugins of Debian and leaves the cache file libcni would leave."""

import json
import os

from lib.cni import cache_file, call_plugin, write_cache
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
        results, network = f"{self.cache}/results", self._conflist
        cache = cache_file(results, self.network, sandbox.container_id)
        result = None
        if command == "del":
            with open(cache, encoding="ascii") as file:
                result = json.load(file)["result"]
        for plugin in network["plugins"] if command == "add" else reversed(network["plugins"]):
            config = plugin | {"cniVersion": network["cniVersion"], "name": self.network}
            if result:
                config["prevResult"] = result
            if "portMappings" in request["capabilityArgs"] and "capabilities" in plugin:
                config["runtimeConfig"] = {"portMappings": [{key[0].lower() + key[1:]: value for key, value in entry.items()}
                                                            for entry in request["capabilityArgs"]["portMappings"]]}
            output = call_plugin(self.namespace, f"{self._plugins}/{plugin['type']}", command.upper(),
                                 sandbox.container_id, request["netns"], config, path or os.environ["PATH"], request["args"])
            if command == "add":
                result = json.loads(output)
        if command == "del":
            os.unlink(cache)
            return ""
        write_cache(results, network, sandbox.container_id, request["netns"], request["args"], request["capabilityArgs"],
                    result)
        return json.dumps(result)
