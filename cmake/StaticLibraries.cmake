# SPDX-License-Identifier: GPL-2.0-or-later
# For a static hptrace: the libraries that Debian has as shared ones only, built from its sources (scripts/debian-root),
# under the names by which the rest of the project knows them.
set(sources ${HPTRACE_CACHE}/sources)
include(GenerateExportHeader)

# static_library(NAME FOLDER FILE...): of others' code, with what they expect and without our warnings.
function(static_library name folder)
  list(TRANSFORM ARGN PREPEND ${folder}/)
  add_library(${name} STATIC ${ARGN})
  target_compile_options(${name} PRIVATE -w -ffunction-sections -fdata-sections)
endfunction()

# Debian's headers could do without a library, but compile half of it into every file.
static_library(fmt ${sources}/fmt/src format.cc)
set(HPTRACE_FMT fmt)

# Debian's own wants GnuTLS, of which nothing is used. What its configure script would find out is the same on every
# machine that this is for; no TLS, no passwords, no forms, no cookies, no messages.
set(folder ${sources}/libmicrohttpd/src)
set(config ${CMAKE_BINARY_DIR}/microhttpd)
configure_file(${CMAKE_CURRENT_LIST_DIR}/microhttpd_config.h ${config}/MHD_config.h COPYONLY)
static_library(microhttpd ${folder}/microhttpd connection.c daemon.c internal.c memorypool.c mhd_compat.c mhd_itc.c
  mhd_mono_clock.c mhd_panic.c mhd_send.c mhd_sockets.c mhd_str.c mhd_threads.c reason_phrase.c response.c)
target_compile_definitions(microhttpd PRIVATE BUILDING_MHD_LIB=1)
target_compile_options(microhttpd PRIVATE -fno-strict-aliasing)
target_include_directories(microhttpd SYSTEM PRIVATE ${config} PUBLIC ${folder}/include)
add_library(PkgConfig::LIBMICROHTTPD ALIAS microhttpd)

# Metrics as text: nothing that would serve them.
set(folder ${sources}/prometheus-cpp/core)
static_library(prometheus_core ${folder}/src check_names.cc counter.cc detail/builder.cc detail/ckms_quantiles.cc
  detail/time_window_quantiles.cc detail/utils.cc family.cc gauge.cc histogram.cc registry.cc serializer.cc summary.cc
  text_serializer.cc)
set(exports ${CMAKE_BINARY_DIR}/prometheus-cpp)
generate_export_header(prometheus_core BASE_NAME prometheus-cpp-core
  EXPORT_FILE_NAME ${exports}/prometheus/detail/core_export.h)
target_include_directories(prometheus_core SYSTEM PUBLIC ${folder}/include ${exports})
# PUBLIC: its headers ask for it too.
target_compile_definitions(prometheus_core PUBLIC PROMETHEUS_CPP_CORE_STATIC_DEFINE)
add_library(PkgConfig::PROMETHEUS ALIAS prometheus_core)

# What Debian's static libraries need themselves.
foreach(name elf z zstd)
  find_library(HPTRACE_LIB_${name} ${name} REQUIRED)
endforeach()
target_link_libraries(PkgConfig::LIBBPF INTERFACE ${HPTRACE_LIB_elf} ${HPTRACE_LIB_z})

# HTTPS for names from the Kubernetes API; Debian's libcurl.a wants Kerberos, LDAP and more that nobody has as static
# libraries. Names of hosts by c-ares: glibc's getaddrinfo would load what the machine's nsswitch.conf names, made for
# another glibc, into a static program.
block()
  set(CMAKE_POLICY_DEFAULT_CMP0126 NEW)  # these win over the defaults in its cache variables
  set(BUILD_SHARED_LIBS OFF)
  set(BUILD_STATIC_LIBS ON)
  set(HTTP_ONLY ON)
  set(ENABLE_ARES ON)
  set(CURL_USE_OPENSSL ON)
  set(CURL_ZLIB ON)
  # For a kubeconfig that names no authority: where most distributions have the system's, one file each.
  set(CURL_CA_PATH /etc/ssl/certs)
  # The machine's openssl.cnf may name modules to load.
  set(CURL_DISABLE_OPENSSL_AUTO_LOAD_CONFIG ON)
  foreach(unwanted BUILD_CURL_EXE BUILD_EXAMPLES BUILD_LIBCURL_DOCS BUILD_MISC_DOCS BUILD_TESTING CURL_BROTLI
      CURL_USE_LIBPSL CURL_USE_LIBSSH2 CURL_ZSTD ENABLE_CURL_MANUAL ENABLE_UNIX_SOCKETS PICKY_COMPILER USE_LIBIDN2
      USE_NGHTTP2)
    set(${unwanted} OFF)
  endforeach()
  set(CURL_ENABLE_EXPORT_TARGET OFF)
  set(CURL_DISABLE_INSTALL ON)
  string(APPEND CMAKE_C_FLAGS " -w -ffunction-sections -fdata-sections")
  add_subdirectory(${sources}/curl ${CMAKE_BINARY_DIR}/curl EXCLUDE_FROM_ALL SYSTEM)
endblock()
add_library(PkgConfig::LIBCURL ALIAS libcurl_static)
target_link_libraries(libcurl_static PRIVATE ${HPTRACE_LIB_zstd})  # libcrypto's
