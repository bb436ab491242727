# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Packages of any Debian suite and architecture, fetched and unpacked without installing them. Everything apt keeps for
# this lies in $cache; the machine's own sources, package lists and caches are not touched. Needs common.sh.

# debian_site LABEL DEFAULT: the machine's own mirror of the archive with this Release label, else DEFAULT.
debian_site() {
  local site
  # shellcheck disable=SC2016 # apt expands it
  site=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' "Label: $1" 2>/dev/null | head -n 1) || true
  site=${site:-$2}
  echo "${site%/}"
}

# debian_lists SUITE ARCHITECTURE: the package lists of that suite and its security updates (sid and backports have none),
# unless they are there.
debian_lists() {
  # shellcheck disable=SC2154 # common.sh sets cache
  local suite=$1 architecture=$2 place=$cache/apt/$1-$2 signed='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]'
  if [ ! -e "$place/ready" ]; then
    mkdir -p "$place/lists/partial" "$place/archives/partial"
    {
      echo "deb $signed $(debian_site Debian https://deb.debian.org/debian) $suite main"
      [[ $suite == sid || $suite == *-backports ]] ||
        echo "deb $signed $(debian_site Debian-Security https://deb.debian.org/debian-security) $suite-security main"
    } >"$place/sources.list"
    # Container images come with hooks that delete downloads, also those of an apt-get running at the same time.
    cat >"$place/apt.conf" <<END
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
#clear APT::Architectures;
APT::Architecture "$architecture";
APT::Architectures "$architecture";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::Etc::SourceList "$place/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "$place/lists";
Dir::State::Status "/dev/null";
Dir::Cache "$place";
END
    say "reading the package lists of $suite ($architecture)"
    silently apt-get -c "$place/apt.conf" -q update || die 1 "cannot read the package lists of $suite from $(sed -n '1s/.*\] \([^ ]*\).*/\1/p' "$place/sources.list")"
    touch "$place/ready"
  fi
}

# debian_apt SUITE ARCHITECTURE COMMAND...: an apt command (apt-get, apt-cache) that sees only that suite.
debian_apt() {
  local place=$cache/apt/$1-$2
  debian_lists "$1" "$2"
  "$3" -c "$place/apt.conf" "${@:4}"
}

# debian_closure SUITE ARCHITECTURE PACKAGE...: prints the packages and all they depend on.
debian_closure() {
  debian_apt "$1" "$2" apt-get -q --simulate --no-install-recommends install "${@:3}" | sed -n 's/^Inst \([^ ]*\).*/\1/p'
}

# debian_download SUITE ARCHITECTURE FOLDER PACKAGE...: downloads the packages into FOLDER.
debian_download() {
  local config=$cache/apt/$1-$2/apt.conf
  debian_lists "$1" "$2"
  (cd "$3" && silently apt-get -c "$config" -q download "${@:4}")
}

# debian_unpack SUITE ARCHITECTURE FOLDER PACKAGE...: downloads the packages and unpacks them into FOLDER, which appears
# complete or not at all.
debian_unpack() {
  local suite=$1 architecture=$2 folder=$3 work
  shift 3
  mkdir -p "$(dirname "$folder")"
  work=$(mktemp -d "$folder.XXXXXX")
  # Lists that are too old name packages the mirror no longer has.
  debian_download "$suite" "$architecture" "$work" "$@" || {
    say "reading the package lists of $suite again"
    rm -f "$cache/apt/$suite-$architecture/ready"
    debian_download "$suite" "$architecture" "$work" "$@"
  } || { rm -rf "$work"; die 1 "cannot download $* of $suite"; }
  mkdir "$work/root"
  local package
  for package in "$work"/*.deb; do dpkg -x "$package" "$work/root"; done
  chmod 755 "$work/root"
  rm -rf "$folder"
  mv "$work/root" "$folder"
  rm -rf "$work"
}
