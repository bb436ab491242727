# SPDX-License-Identifier: GPL-2.0-or-later
"""A container as kubelet's runtimes make one for a pod with hostNetwork: by a real OCI runtime (crun), with the default
seccomp profile of the containers project translated as they translate it."""

import json
import os
import shutil

PROFILE = "/usr/share/containers/seccomp.json"  # golang-github-containers-common
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def seccomp(capabilities):
    """The profile for a container with these capabilities (containers/common, pkg/seccomp: setupSeccomp)."""
    with open(PROFILE, encoding="utf-8") as file:
        profile = json.load(file)
    machine = ARCHITECTURES[os.uname().machine]

    def applies(rule):
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        return (set(includes.get("caps", ())) <= set(capabilities)
                and ("arches" not in includes or machine in includes["arches"])
                and not set(excludes.get("caps", ())) & set(capabilities)
                and machine not in excludes.get("arches", ()))

    fields = ("names", "action", "args", "errnoRet")
    rules = [{key: rule[key] for key in fields if rule.get(key) not in (None, [])}
             for rule in filter(applies, profile["syscalls"])]
    return {"defaultAction": profile["defaultAction"], "defaultErrnoRet": profile["defaultErrnoRet"], "syscalls": rules}


def bundle(folder, binary, arguments, context, capabilities, mounts):
    """Writes an OCI bundle whose root holds the program alone. context: a securityContext of Kubernetes; capabilities: in
    place of its own. The network namespace is that of whoever runs it."""
    shutil.rmtree(folder, ignore_errors=True)
    root = os.path.join(folder, "rootfs")
    for path in ("proc", "sys", "dev", *(mount["mountPath"].lstrip("/") for mount in mounts)):
        os.makedirs(os.path.join(root, path))
    shutil.copy(binary, os.path.join(root, "hptrace"))
    names = [f"CAP_{name}" for name in capabilities]
    sets = ("bounding", "effective", "permitted")
    config = {
        "ociVersion": "1.0.2",
        "process": {"terminal": False, "user": {"uid": context["runAsUser"], "gid": 0}, "args": ["/hptrace", *arguments],
                    "env": ["PATH=/"], "cwd": "/", "capabilities": {name: names for name in sets},
                    "noNewPrivileges": not context["allowPrivilegeEscalation"]},
        "root": {"path": "rootfs", "readonly": context["readOnlyRootFilesystem"]},
        # What containerd and CRI-O mount for every container; /sys is read-only.
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                   {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
                   {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro"]},
                   *({"destination": mount["mountPath"], "type": "bind", "source": mount["source"],
                      "options": ["rbind", "ro" if mount["readOnly"] else "rw"]} for mount in mounts)],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "mount")],
            "seccomp": seccomp(names),
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                            "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]}}
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    return ["crun", "--cgroup-manager=disabled", "run", "--bundle", folder, os.path.basename(folder)]
