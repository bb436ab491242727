# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# A kernel of our own, from Debian's source. Needs common.sh and debian.sh, and what scripts/setup --kernel-build installs.

# kernel_build SUITE SOURCE CONFIG FOLDER: builds package SOURCE (linux-source-VERSION) of the suite as CONFIG says, with
# all that it does not name switched off, which includes loadable modules. FOLDER appears complete or not at all: it gets
# boot/vmlinuz-VERSION, in lib/modules/VERSION the lists of what is built in, and CONFIG as `config`.
kernel_build() (
  suite=$1 source=$2 config=$3 folder=$4
  for tool in make gcc flex bison bc pahole; do
    command -v $tool >/dev/null || die 1 "$tool is missing, which building a kernel takes: run scripts/setup --kernel-build"
  done
  mkdir -p "$(dirname "$folder")"
  work=$(mktemp -d "$folder.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  debian_unpack "$suite" amd64 "$work/source" "$source"
  # Left out are many files of which none is compiled. Every Kconfig stays: those of all architectures are read.
  tar -xf "$work/source/usr/src/$source.tar.xz" -C "$work" \
    --exclude='*/arch/[!x]*/*.[chS]' --exclude='*/arch/[!x]*/*.dts*' --exclude='*/Documentation/*/*' \
    --exclude='*/drivers/gpu/drm/amd/include' --exclude='*/selftests'
  tree=$work/$source

  make -s -C "$tree" KCONFIG_ALLCONFIG="$config" allnoconfig >&2 || die 1 "$source cannot be configured"
  # Lines that lack what they depend on are dropped silently.
  refused=$(grep '^CONFIG_' "$config" | grep -vxFf "$tree/.config") || true
  [ -z "$refused" ] || die 1 "$source does not take of $config: ${refused//$'\n'/ }"
  nice make -s -C "$tree" -j"$(nproc)" bzImage >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log" >&2; die 1 "$source cannot be built"; }

  version=$(make -s -C "$tree" kernelrelease)
  mkdir -p "$work/root/boot" "$work/root/lib/modules/$version"
  chmod 755 "$work/root"
  cp "$tree/arch/x86/boot/bzImage" "$work/root/boot/vmlinuz-$version"
  cp "$tree"/modules.builtin{,.modinfo} "$work/root/lib/modules/$version/"
  : >"$work/root/lib/modules/$version/modules.order"
  depmod -b "$work/root" "$version"
  cp "$config" "$work/root/config"
  rm -rf "$folder"
  mv "$work/root" "$folder"
)
