# SPDX-License-Identifier: GPL-2.0-or-later
# Toolchain file: one file that runs on every distribution, for amd64 or arm64 (HPTRACE_ARCH) and made on either, against
# the Debian root that scripts/debian-root unpacks.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES HPTRACE_ARCH)
set(CMAKE_SYSTEM_NAME Linux)
if(HPTRACE_ARCH STREQUAL arm64)
  set(CMAKE_SYSTEM_PROCESSOR aarch64)
else()
  set(CMAKE_SYSTEM_PROCESSOR x86_64)
endif()
set(triplet ${CMAKE_SYSTEM_PROCESSOR}-linux-gnu)

set(HPTRACE_CACHE /opt/hptrace)
if(DEFINED ENV{HPTRACE_CACHE})
  set(HPTRACE_CACHE $ENV{HPTRACE_CACHE})
endif()
set(CMAKE_SYSROOT ${HPTRACE_CACHE}/${HPTRACE_ARCH})

# clang and lld make code for every machine. They are needed anyway, for BPF, and the same on every distribution.
foreach(language C CXX)
  set(CMAKE_${language}_COMPILER_TARGET ${triplet})
endforeach()
set(CMAKE_C_COMPILER clang-19)
set(CMAKE_CXX_COMPILER clang++-19)
set(CMAKE_EXE_LINKER_FLAGS_INIT "-fuse-ld=lld -static -Wl,--gc-sections")

# Libraries and headers of that root only; programs (clang, bpftool, pkg-config) of this machine.
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
foreach(kind LIBRARY INCLUDE PACKAGE)
  set(CMAKE_FIND_ROOT_PATH_MODE_${kind} ONLY)
endforeach()
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${CMAKE_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR} ${CMAKE_SYSROOT}/usr/lib/${triplet}/pkgconfig:${CMAKE_SYSROOT}/usr/share/pkgconfig)
