# Sourced by install and uninstall, so that both use the same list of files.
# shellcheck shell=bash

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

prefix=/usr/local
while [[ $# -gt 0 ]]; do
    case $1 in
    --prefix) [[ $# -gt 1 ]] || fail "--prefix needs a directory"; prefix=$2; shift 2 ;;
    --prefix=*) prefix=${1#*=}; shift ;;
    *) fail "usage: ${0##*/} [--prefix DIR]   (DESTDIR is honoured)" ;;
    esac
done
[[ $prefix == /* && $prefix != *[[:space:]]* ]] || fail "--prefix must be an absolute path without blanks: $prefix"
prefix=${prefix%/}
destination=${DESTDIR-}

# systemd reads units in these two prefixes only. With another prefix, they go to the administrator's directory.
case $prefix in
/usr | /usr/local) units=$prefix/lib/systemd ;;
*) units=/etc/systemd ;;
esac

# Source (relative to the repository; "made:" and the text that the program prints), destination, mode.
# shellcheck disable=SC2034
installed_files=(
    ".build/release/pulsefs $prefix/bin/pulsefs 755"
    # The only directory in which mount(8) looks.
    "mount-scripts/mount.fuse.pulsefs /sbin/mount.fuse.pulsefs 755"
    "mount-scripts/pulsefs@.service $units/system/pulsefs@.service 644"
    "mount-scripts/pulsefs@.service $units/user/pulsefs@.service 644"
    "made:manual $prefix/share/man/man1/pulsefs.1 644"
    # The default directories of the shells.
    "made:bash $prefix/share/bash-completion/completions/pulsefs 644"
    "made:zsh $prefix/share/zsh/site-functions/_pulsefs 644"
    "made:fish $prefix/share/fish/vendor_completions.d/pulsefs.fish 644"
)

# Only a running systemd must reload, and not after an install into DESTDIR.
reload_units() {
    [[ -z $destination && -d /run/systemd/system ]] || return 0
    systemctl daemon-reload
}
