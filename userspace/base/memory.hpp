// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdlib>  // __GLIBC__

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace hptrace {

// For after a reading of which much less is kept, when the next one of that kind may be long away: what is free goes
// back to the kernel.
inline void give_back_memory() {
#ifdef __GLIBC__
    static_cast<void>(::malloc_trim(0));
#endif
}

}  // namespace hptrace
