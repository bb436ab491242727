// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sched.h>
#include <sys/mount.h>

#include <functional>
#include <thread>

// Runs it where /proc is not mounted, as for a program in an empty root, in a thread with mounts of its own. False:
// they cannot be had here, it was not run.
inline bool without_proc(const std::function<void()>& run) {
    bool gone = false;
    std::thread([&] {
        gone = ::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
               ::umount2("/proc", MNT_DETACH) == 0;
        if (gone) {
            run();
        }
    }).join();
    return gone;
}
