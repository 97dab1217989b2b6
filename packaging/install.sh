#!/bin/sh
# Installs ovl on a Linux distribution with systemd that has no package of it, and starts the agent;
# run again, from a later version's folder, it upgrades.
#
# usage: ./install.sh [--prefix DIR] [--no-start]
#        ./install.sh --uninstall [--purge] [--prefix DIR]
#   --prefix     where programs, unit and manual go: /usr (default), or /usr/local
#   --no-start   installs only; the service is neither enabled nor restarted
#   --uninstall  out of the cluster, stop, remove; settings and state are kept
#   --purge      with --uninstall: settings (/etc/ovl) and state (/var/lib/ovl) go as well
#
# A configuration that is there is kept. Containers do not notice an upgrade.
# Needs glibc 2.34 and OpenSSL 3 or later: RHEL 9, Fedora 36, Ubuntu 22.04, openSUSE Leap 15.6.
# Exit codes: 0 done; 1 failed, and what ran before still runs; 64 wrong usage; 69 not this host.
set -eu
here=$(CDPATH='' cd "$(dirname "$0")" && pwd)
unit=ovl-agent.service

say() { echo "ovl: $*"; }
fail() { echo "ovl: $*" >&2; exit 1; }
unfit() { echo "ovl: $*" >&2; exit 69; }
wrong() { echo "ovl: $*; see ./install.sh --help" >&2; exit 64; }

prefix=/usr start=yes uninstall='' purge=''
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p;}' "$0"
        exit ;;
    --prefix)
        [ $# -gt 1 ] || wrong "--prefix needs a folder"
        prefix=$2
        shift ;;
    --no-start) start='' ;;
    --uninstall) uninstall=yes ;;
    --purge) purge=yes ;;
    *) wrong "unknown: $1" ;;
    esac
    shift
done
# Systemd looks for units below these two only.
case $prefix in
/usr | /usr/local) ;;
*) wrong "--prefix is /usr or /usr/local" ;;
esac
if [ "$purge" ] && ! [ "$uninstall" ]; then wrong "--purge goes with --uninstall"; fi
# What was installed, for --uninstall: a path a line.
manifest=$prefix/share/doc/ovl/installed

check_host() {
    [ "$(id -u)" -eq 0 ] || unfit "this needs root: sudo ./install.sh"
    [ -d /run/systemd/system ] || unfit "systemd does not run here; copy usr/bin/* and start ovl-agent by what does"
    if dpkg-query -W -f '${Status}' ovl 2>/dev/null | grep -q ' installed$'; then
        unfit "ovl is installed as a package: use apt"
    fi
    for other in /usr /usr/local; do
        if [ "$other" != "$prefix" ] && [ -e "$other/share/doc/ovl/installed" ]; then
            unfit "ovl is installed in $other: go on with --prefix $other, or --uninstall that first"
        fi
    done
}

check_programs() {
    made_for=$(cat "$here/architecture")
    [ "$(uname -m)" = "$made_for" ] || unfit "this is for $made_for, and this host is $(uname -m)"
    for program in ovl-agent ovlctl; do
        case $("$here/usr/bin/$program" --version 2>/dev/null || true) in "$program "*) continue ;; esac
        echo "ovl: $program does not run here:" >&2
        ldd "$here/usr/bin/$program" 2>&1 | grep -i 'not found' >&2 || true
        unfit "it needs glibc 2.34 and OpenSSL 3 or later"
    done
}

# Every file is written beside its place first, then all are renamed: a disk that is full or
# read-only leaves what was there as it was.
install_files() {
    list=$(mktemp)
    trap 'clean' EXIT
    trap 'exit 130' INT TERM HUP
    (cd "$here/usr" && find . -type f | sed 's|^\./||' | LC_ALL=C sort) > "$list"
    while read -r file; do
        mkdir -p "$prefix/$(dirname "$file")"
        cp "$here/usr/$file" "$(beside "$prefix/$file")"
    done < "$list"
    new_unit=$(beside "$prefix/lib/systemd/system/$unit")
    sed "s|/usr/bin/ovl|$prefix/bin/ovl|" "$here/usr/lib/systemd/system/$unit" > "$new_unit"
    sed "s|^|$prefix/|" "$list" > "$(beside "$manifest")"
    while read -r file; do
        mv -f "$(beside "$prefix/$file")" "$prefix/$file"
    done < "$list"
    mv -f "$(beside "$manifest")" "$manifest"
    configuration
    # Labels of SELinux, where it is.
    if command -v restorecon >/dev/null; then
        tr '\n' '\0' < "$manifest" | xargs -0 restorecon -F /etc/ovl >/dev/null 2>&1 || true
    fi
}

beside() { echo "$(dirname "$1")/.$(basename "$1").new"; }

# What a failure left half-way.
clean() {
    while read -r file; do rm -f "$(beside "$prefix/$file")"; done < "$list"
    rm -f "$(beside "$manifest")" "$list"
}

configuration() {
    mkdir -p /etc/ovl
    if [ -e /etc/ovl/agent.toml ]; then
        say "/etc/ovl/agent.toml is kept; a fresh example: $prefix/share/ovl/agent.toml"
    else
        cp "$here/usr/share/ovl/agent.toml" /etc/ovl/agent.toml
    fi
}

make_group() {
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers "$prefix/lib/sysusers.d/ovl.conf"
    else
        getent group ovl >/dev/null || groupadd --system ovl
    fi
}

# $1: whether it was installed before. One that was stopped or disabled by hand stays so.
start_unit() {
    systemctl daemon-reload
    if [ "$1" ]; then
        systemctl try-restart "$unit" || fail "the agent did not start: systemctl status ovl-agent"
        systemctl -q is-active "$unit" || say "the agent was stopped, and stays so: systemctl start ovl-agent"
    else
        systemctl -q enable "$unit"
        systemctl start "$unit" || fail "the agent did not start: systemctl status ovl-agent"
    fi
}

do_install() {
    check_programs
    before=''
    [ ! -e "$manifest" ] || before=yes
    install_files
    make_group
    if [ "$start" ]; then start_unit "$before"; fi
    say "$("$prefix/bin/ovl-agent" --version) is installed; its settings: /etc/ovl/agent.toml"
}

# The agent gives the addresses of this host back, and ends. It refuses while endpoints run here:
# they stay as they are, and go on talking.
leave() {
    case "$(systemctl show -p ActiveState --value "$unit" 2>/dev/null)" in inactive) return 0 ;; esac
    said=$(timeout 60 "$prefix/bin/ovlctl" leave --yes 2>&1 </dev/null) ||
        say "this host has not left the cluster: ${said#ovlctl: }"
}

# Devices and the table that no container uses go; state is kept here, so it is looked for where
# nothing is.
clear_kernel() {
    ctl=$prefix/bin/ovlctl
    said=$(timeout 60 "$ctl" leave --purge --yes --state-dir /nonexistent 2>&1 >/dev/null </dev/null) &&
        return
    say "in the kernel: ${said#ovlctl: }"
    say "to take all of it away: install it again, remove those containers and their networks from Docker,"
    say "and uninstall then; what runs is adopted, and goes on talking"
}

do_uninstall() {
    [ -e "$manifest" ] || fail "it is not installed in $prefix"
    leave
    systemctl -q disable --now "$unit" || true
    clear_kernel
    while read -r file; do rm -f "$file"; done < "$manifest"
    rm -f "$manifest"
    rmdir "$prefix/share/doc/ovl/docs" "$prefix/share/doc/ovl" "$prefix/share/ovl" 2>/dev/null || true
    systemctl daemon-reload
    systemctl reset-failed "$unit" 2>/dev/null || true
    if [ "$purge" ]; then
        rm -rf /etc/ovl /var/lib/ovl
        say "removed, with settings and state; the group ovl is left"
    else
        say "removed; kept: /etc/ovl, /var/lib/ovl"
    fi
}

check_host
umask 022
if [ "$uninstall" ]; then do_uninstall; else do_install; fi
