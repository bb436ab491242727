# SPDX-License-Identifier: GPL-2.0-or-later
# hptrace_bpf_library(TARGET NAME...): compiles each NAME.bpf.c for the BPF machine and makes NAME.skel.h, which embeds
# the object. Consumers link the interface library TARGET.

find_program(BPF_CLANG NAMES clang-19 clang-18 clang-17 clang-16 clang REQUIRED)
find_program(LLVM_STRIP NAMES llvm-strip-19 llvm-strip-18 llvm-strip-17 llvm-strip-16 llvm-strip REQUIRED)
# Ubuntu keeps it with the tools of each kernel; sbin is not in every user's path.
file(GLOB bpftool_folders /usr/lib/linux-tools/* /usr/lib/linux-tools-*)
find_program(BPFTOOL bpftool HINTS ${bpftool_folders} /usr/sbin REQUIRED)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|amd64|AMD64)$")
  set(HPTRACE_BPF_ARCH amd64)
  set(bpf_target_define __TARGET_ARCH_x86)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(HPTRACE_BPF_ARCH arm64)
  set(bpf_target_define __TARGET_ARCH_arm64)
else()
  message(FATAL_ERROR "hptrace is for x86-64 and arm64, not ${CMAKE_SYSTEM_PROCESSOR}")
endif()

# v3: the newest instruction set that a 5.10 kernel verifies.
set(bpf_flags -target bpf -mcpu=v3 -g -O2 -std=gnu17 -Wall -Wextra -Wno-unused-parameter -fno-strict-aliasing
  -D${bpf_target_define})
if(CMAKE_SYSROOT)
  list(APPEND bpf_flags --sysroot=${CMAKE_SYSROOT})  # libbpf's headers
endif()
if(HPTRACE_WERROR)
  list(APPEND bpf_flags -Werror)
endif()

function(hptrace_bpf_library target)
  set(skeletons)
  foreach(name ${ARGN})
    set(source ${CMAKE_CURRENT_SOURCE_DIR}/${name}.bpf.c)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}.bpf.o)
    set(skeleton ${CMAKE_CURRENT_BINARY_DIR}/${name}.skel.h)
    add_custom_command(OUTPUT ${object}
      COMMAND ${BPF_CLANG} ${bpf_flags} -I${PROJECT_SOURCE_DIR}/include -I${PROJECT_SOURCE_DIR}/vmlinux/${HPTRACE_BPF_ARCH}
        -MD -MF ${object}.d -MT ${object} -c ${source} -o ${object}
      COMMAND ${LLVM_STRIP} -g ${object}  # drops DWARF only: BTF stays
      DEPENDS ${source} DEPFILE ${object}.d COMMENT "BPF object ${name}" VERBATIM)
    add_custom_command(OUTPUT ${skeleton}
      COMMAND ${BPFTOOL} gen skeleton ${object} name ${name}_bpf > ${skeleton}
      DEPENDS ${object} COMMENT "BPF skeleton ${name}" VERBATIM)
    list(APPEND skeletons ${skeleton})
  endforeach()
  add_custom_target(${target}_skeletons DEPENDS ${skeletons})
  add_library(${target} INTERFACE)
  add_dependencies(${target} ${target}_skeletons)
  # SYSTEM: bpftool's output does not pass our warnings.
  target_include_directories(${target} SYSTEM INTERFACE ${CMAKE_CURRENT_BINARY_DIR})
endfunction()
