# SPDX-License-Identifier: GPL-2.0-or-later
# Toolchain file: builds for arm64 on another machine, against the Debian root that scripts/arm64-root unpacks.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)

if(DEFINED ENV{HPTRACE_CACHE})
  set(CMAKE_SYSROOT $ENV{HPTRACE_CACHE}/arm64)
else()
  set(CMAKE_SYSROOT /opt/hptrace/arm64)
endif()

# clang and lld make code for every machine. They are needed anyway, for BPF, and the same on every distribution.
foreach(language C CXX)
  set(CMAKE_${language}_COMPILER_TARGET aarch64-linux-gnu)
endforeach()
set(CMAKE_C_COMPILER clang-19)
set(CMAKE_CXX_COMPILER clang++-19)
set(CMAKE_EXE_LINKER_FLAGS_INIT -fuse-ld=lld)

# Libraries and headers of that root only; programs (clang, bpftool, pkg-config) of this machine.
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
foreach(kind LIBRARY INCLUDE PACKAGE)
  set(CMAKE_FIND_ROOT_PATH_MODE_${kind} ONLY)
endforeach()
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${CMAKE_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR} ${CMAKE_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${CMAKE_SYSROOT}/usr/share/pkgconfig)
