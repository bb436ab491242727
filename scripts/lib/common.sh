# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What the scripts share: where things are, and how they speak.

set -euo pipefail

# shellcheck disable=SC2034
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
script=$(basename "$0")

# Kernels, package lists and virtme-ng. Guests see the host's files except /tmp, /run and /var, so not below those.
# shellcheck disable=SC2034
cache=${HPTRACE_CACHE:-/opt/hptrace}

say() { echo "$script: $*" >&2; }

# die STATUS WORDS...: one clear line, then exit.
die() {
  local status=$1
  shift
  say "$@"
  exit "$status"
}

# The comment at the top of the calling script is its help.
show_help() { sed -n '3,/^[^#]/{s/^# \{0,1\}//;t p;d;:p;p}' "$0"; }

need_root() { [ "$(id -u)" -eq 0 ] || die 1 "needs root${1:+ ($1)}"; }

# silently COMMAND...: what it prints is only shown if it fails.
silently() {
  local log
  log=$(mktemp)
  "$@" </dev/null >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; return 1; }
  rm -f "$log"
}
