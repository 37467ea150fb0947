# Sourced by start and test: checks and installs what both need. Debian and Ubuntu only.
# shellcheck shell=bash

# An ordinary user's PATH on Debian lacks these directories, which contain some of the tools.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

progress() { printf '==> %s\n' "$*"; }

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root, and there is no sudo: $*"
    fi
}

# install_missing TOOL=PACKAGE…: installs the package of each tool that is not on the PATH, and the C libraries with
# their headers. It checks for the tool, not the package: node, git and others often come from elsewhere.
install_missing() {
    local entry packages=()
    for entry in "$@"; do
        command -v "${entry%%=*}" >/dev/null || packages+=("${entry#*=}")
    done
    pkg-config --exists 'fuse3 >= 3.14' 2>/dev/null || packages+=(libfuse3-dev)
    pkg-config --exists 'hiredis >= 0.14' 2>/dev/null || packages+=(libhiredis-dev)
    pkg-config --exists 'openssl >= 3' 2>/dev/null || packages+=(libssl-dev)
    [[ ${#packages[@]} -gt 0 ]] || return 0

    command -v apt-get >/dev/null ||
        fail "missing: ${packages[*]} (Debian's names); there is no apt-get here, so install them by hand"
    progress "installing ${packages[*]}"
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}")
    # The package lists are fetched only if they are absent or too old.
    as_root "${install[@]}" >/dev/null 2>&1 || {
        as_root apt-get update -qq
        as_root "${install[@]}" >/dev/null
    }
    pkg-config --exists 'fuse3 >= 3.14' ||
        fail "libfuse $(pkg-config --modversion fuse3) is too old: 3.14 or newer is needed"
}

need_swift() {
    command -v swift >/dev/null || fail "no swift on the PATH: install Swift 6.2 or newer"
}

# Fails with the reason if this user cannot mount.
need_fuse() {
    [[ -e /dev/fuse ]] || as_root modprobe fuse 2>/dev/null || true
    [[ -e /dev/fuse ]] ||
        fail "no /dev/fuse: the kernel has no FUSE, or the container was not given the device (--device /dev/fuse)"
    # fusermount3 opens the device with the rights of its caller.
    [[ -r /dev/fuse && -w /dev/fuse ]] ||
        fail "/dev/fuse has mode $(stat -c %a /dev/fuse), and an ordinary user needs 666: sudo chmod 666 /dev/fuse"
}
