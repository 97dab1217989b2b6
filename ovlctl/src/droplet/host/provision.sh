#!/bin/sh
# Makes a Debian machine a host of the cluster, or the cluster's key-value store. It runs as root, by
# cloud-init at the first boot and over ssh later. Run again it changes nothing, and says so.
#
# What it prints, a line a step:
#   = as it should be    + changed, and what    ~ the machine must restart    ! failed, and why
# It ends with 1 if a line began with `!`. What the programs said stands in /var/log/ovl-provision.log.
#
# Settings, which stand above this as assignments:
#   HOST_ROLE          node or kvstore
#   HOST_PRIVATE       the address between the hosts; empty: the metadata service is asked
#   HOST_PACKAGE       where the agent is from: url, file, installed; empty: no agent
#   HOST_PACKAGE_FROM  the URL or the path
#   HOST_SHA256        of the package, in hexadecimal; may be empty for https
#   HOST_SETTINGS      lines of agent.toml, without `advertise`
# None is called OVL_*: the agent refuses variables of that name that it does not know. HOST_ROOT, for
# tests, stands before the paths of the kernel and of GRUB.
set -eu

log=/var/log/ovl-provision.log
restart_mark=/run/ovl-provision.restart
# What the agent still needs to take its settings: restart or reload. A run that failed leaves it.
wants_mark=/run/ovl-provision.agent
metadata=http://169.254.169.254/metadata/v1/interfaces/private/0/ipv4/address
agent_toml=/etc/ovl/agent.toml
begin_mark='# ovlctl droplet provision writes the lines up to the end mark; your own settings go below it.'
end_mark='# The end mark.'
# HashiCorp's key for Linux packages since September 2026 (bulletin HCSEC-2026-33, and
# https://www.hashicorp.com/trust/security). The one before, 798A EC65 to A621 E701, is not in use any more.
hashicorp_key=D55C0D1AC78A8D8126CB631CFC9CA96ACA026560

changes=0 failures=0 news='' step='' work=''

# --- what it says -----------------------------------------------------------------------------------

say() { printf '%s\n' "$*"; }

# Something changed in the step at hand.
new() { news="$news${news:+, }$*"; }

# The end of a step ($1): what changed, or what is as it should be ($2).
told() {
    if [ "$news" ]; then
        changes=$((changes + 1))
        say "+ $1: $news"
    else
        say "= $1: $2"
    fi
    news=''
}

# Something is not as it should be; the rest goes on.
complain() {
    failures=$((failures + 1))
    say "! $*"
}

# The end. What the step had changed before is told first.
fail() {
    flush
    complain "$*"
    exit 1
}

# What a step that is broken off had changed: done is done.
flush() {
    if [ "$news" ]; then say "+ $step: $news"; fi
    news=''
}

# Also where a command failed that nobody expected to.
ended() {
    status=$?
    flush
    if [ "$status" -ne 0 ] && [ "$failures" -eq 0 ]; then say "! $step: ended with status $status"; fi
    rm -rf "$work"
}

# The cause of a failure, in one line: the first error of apt or dpkg, which may have its reason in the
# line below, or the last line.
cause() {
    sed -nE '/^(E: |dpkg: error)/{s/^(E: |dpkg: (error: )?)//;/:$/{N;s/\n */ /};p;q}' "$work/said" | grep . ||
        grep . "$work/said" | tail -n 1
}

# Runs a command; $1 says what for. Its words go to the log.
run() {
    what=$1
    shift
    if "$@" >"$work/said" 2>&1; then
        cat "$work/said" >>"$log"
        return
    fi
    cat "$work/said" >>"$log"
    fail "$what: $(cause)"
}

# --- packages ---------------------------------------------------------------------------------------

# Recommended packages are named here where they are needed, and others stay away: they would bring a
# mail server or needrestart, which restarts what it likes. fail2ban needs python3-systemd to read the
# journal, and iptables (Debian 12) or nftables (13) to ban.
wanted() {
    echo ca-certificates curl fail2ban htop iptables jq nftables python3-systemd tree ufw vim
    # A Docker from elsewhere is as good, and Debian's would take its place.
    if [ "$HOST_ROLE" = node ] && ! command -v dockerd >/dev/null; then echo apparmor docker.io; fi
}

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q ' installed$'; }

# Runs a command of apt or dpkg; $1 says what for. cloud-init and unattended upgrades hold locks for
# minutes, so what finds one is tried again, for ten minutes in all.
once_unlocked() {
    what=$1
    shift
    deadline=$(($(date +%s) + 600))
    until "$@" >"$work/said" 2>&1; do
        cat "$work/said" >>"$log"
        if ! grep -q 'Could not get lock\|Unable to lock\|locked by another process' "$work/said" ||
            [ "$(date +%s)" -ge "$deadline" ]; then
            fail "$what: $(cause)"
        fi
        sleep 5
    done
    cat "$work/said" >>"$log"
}

# apt itself waits for dpkg's lock only.
apt_get() {
    what=$1
    shift
    once_unlocked "$what" apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

lists_are_fresh=''
update() {
    if [ "$lists_are_fresh" ]; then return; fi
    # A power cut in the middle of an installation leaves it to be ended. One that somebody else is at
    # looks the same: its lock is waited for.
    if [ -n "$(ls -A "${HOST_ROOT-}/var/lib/dpkg/updates" 2>/dev/null)" ] || dpkg --audit 2>/dev/null | grep -q .; then
        once_unlocked "packages: dpkg --configure -a" env DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold --configure -a
    fi
    apt_get "packages: apt-get update" update
    lists_are_fresh=yes
}

# Installs those that are missing.
packages() {
    missing=''
    for package; do
        installed "$package" || missing="$missing $package"
    done
    if [ -z "$missing" ]; then return; fi
    update
    # shellcheck disable=SC2086 # a list of words
    apt_get "packages: apt-get install$missing" install $missing
    new "installed$missing"
}

step_packages() {
    # shellcheck disable=SC2046 # a list of words
    packages $(wanted)
    if [ "$HOST_ROLE" = node ]; then
        # Debian 13 has Docker's command line in a package of its own.
        if ! command -v docker >/dev/null; then packages docker-cli; fi
        service docker.service
    fi
    told packages "all are installed"
}

# --- files and services -----------------------------------------------------------------------------

# Makes a file ($1) what stands on standard input. True if it was not so before. What somebody else
# wrote is kept beside it.
put() {
    cat >"$work/new"
    if cmp -s "$work/new" "$1"; then return 1; fi
    mkdir -p "$(dirname "$1")"
    if [ -e "$1" ]; then
        cp -p "$1" "$1.old"
        new "wrote $1 anew (it was: $1.old)"
    else
        new "wrote $1"
    fi
    # In a condition the shell goes on after a failure: a full disk must not put half a file in place.
    { install -m 644 "$work/new" "$1.new" && mv "$1.new" "$1"; } || fail "cannot write $1"
}

active() { systemctl -q is-active "$1"; }

# What a unit's own processes logged last.
last_words() { journalctl -q --no-pager -o cat -n 1 "_SYSTEMD_UNIT=$1" 2>/dev/null | sed 's/^ *//'; }

# Starts, restarts or reloads ($1) a unit ($2); if it cannot, the unit's own last words are the cause.
systemd() {
    if [ "$1" != reload ]; then systemctl -q reset-failed "$2" 2>/dev/null || true; fi
    if systemctl "$1" "$2" >"$work/said" 2>&1; then return; fi
    words=$(last_words "$2")
    fail "$step: systemctl $1 $2: ${words:-$(cause)}"
}

# Enabled, and running.
service() {
    if ! systemctl -q is-enabled "$1" 2>/dev/null; then
        run "$step: systemctl enable $1" systemctl enable "$1"
        new "enabled $1"
    fi
    if ! active "$1"; then
        systemd start "$1"
        new "started $1"
    fi
}

# Waits at most $1 seconds for a command to succeed.
within() {
    left=$1
    shift
    until "$@"; do
        left=$((left - 1))
        if [ "$left" -le 0 ]; then return 1; fi
        sleep 1
    done
}

# --- memory accounting ------------------------------------------------------------------------------

# Whether the kernel accounts for memory: for `docker run --memory`, with swap in version 1.
accounts() {
    groups=${HOST_ROOT-}/sys/fs/cgroup
    if [ -e "$groups/cgroup.controllers" ]; then
        grep -qw memory "$groups/cgroup.controllers"
    else
        awk '$1 == "memory" && $4 == 1 { found = 1 } END { exit !found }' "${HOST_ROOT-}/proc/cgroups" &&
            [ -e "$groups/memory/memory.memsw.limit_in_bytes" ]
    fi
}

# Whether the kernel was started after a file ($1) was written.
booted_after() {
    boot=$(awk '$1 == "btime" { print $2 }' "${HOST_ROOT-}/proc/stat")
    [ "$(stat -c %Y "$1")" -lt "$boot" ]
}

# Whether GRUB's menu ($1) has what the file below asks for: update-grub came to its end.
in_menu() { grep -qw cgroup_enable=memory "$1" 2>/dev/null; }

step_memory() {
    # The last of its folder, so that it can take out what the others put in.
    grub=${HOST_ROOT-}/etc/default/grub.d/zz-ovl.cfg
    menu=${HOST_ROOT-}/boot/grub/grub.cfg
    if accounts; then
        told memory "the kernel accounts for it"
        return
    fi
    if grep -qw cgroup_enable=memory "${HOST_ROOT-}/proc/cmdline"; then
        complain "memory: the kernel was started with cgroup_enable=memory, and still does not account for it"
        return
    fi
    if [ -e "$grub" ] && in_menu "$menu" && booted_after "$menu"; then
        complain "memory: the machine was restarted, and the kernel without what $grub says: does it start by GRUB?"
        return
    fi
    if ! command -v update-grub >/dev/null; then
        complain "memory: the kernel does not account for it, and there is no GRUB to tell it"
        return
    fi
    if put "$grub" <<'END'
# Written by ovlctl droplet provision: the kernel accounts for memory, for limits of containers.
# What switches it off goes: Debian's kernels do it unless they are told not to.
without_disable() { echo "$1" | sed 's/cgroup_disable=memory//g'; }
GRUB_CMDLINE_LINUX_DEFAULT=$(without_disable "$GRUB_CMDLINE_LINUX_DEFAULT")
GRUB_CMDLINE_LINUX="$(without_disable "$GRUB_CMDLINE_LINUX") cgroup_enable=memory swapaccount=1"
END
    then
        told memory ""
    fi
    # Also where the file was there: it may have failed before.
    run "memory: update-grub" update-grub
    if ! in_menu "$menu"; then
        complain "memory: update-grub left $menu without what $grub says"
        return
    fi
    : >"${HOST_ROOT-}$restart_mark"
    say "~ memory: the kernel accounts for it after a restart"
}

# --- the address between the hosts ------------------------------------------------------------------

# Sets private, interface and network.
find_private() {
    private=$HOST_PRIVATE
    if [ -z "$private" ]; then
        private=$(curl -fsS --noproxy '*' --connect-timeout 3 --max-time 10 --retry 3 \
            --retry-connrefused "$metadata" 2>"$work/said") ||
            fail "private address: the metadata service does not tell: $(cause)"
    fi
    found=$(ip -4 -o address show | awk -v a="$private" '{ split($4, p, "/") } p[1] == a { print $2, $4; exit }')
    [ "$found" ] || fail "private address: no interface has $private"
    interface=${found% *}
    network=$(network_of "${found#* }")
    # Of an interface with several addresses the agent would take the first.
    advertise=$interface
    count=$(ip -4 -o address show dev "$interface" | wc -l)
    if [ "$count" -ne 1 ]; then advertise=$private; fi
}

# 10.124.0.2/20 is in 10.124.0.0/20.
network_of() {
    length=${1#*/}
    IFS=. read -r a b c d <<END
${1%/*}
END
    base=$(((a << 24 | b << 16 | c << 8 | d) & (4294967295 << (32 - length)) & 4294967295))
    say "$((base >> 24)).$((base >> 16 & 255)).$((base >> 8 & 255)).$((base & 255))/$length"
}

# --- firewall ---------------------------------------------------------------------------------------

# 22, where sshd is set to listen, and where it does.
ssh_ports() {
    {
        echo 22
        sshd -T 2>/dev/null | awk '$1 == "port" { print $2 }'
        pid=$(systemctl show -p MainPID --value ssh.service 2>/dev/null) || pid=0
        ss -Hltnp 2>/dev/null | awk -v p="pid=${pid:-0}," 'index($0, p) { sub(/.*:/, "", $4); print $4 }'
    } | sort -nu
}

# Where the connection came in that runs this: nobody is locked out, whatever listens there.
this_port() { say "${SSH_CONNECTION-}" | awk '$4 ~ /^[0-9]+$/ { print $4 }'; }

# What ufw was told of a rule, whoever did: allow, deny, limit or reject; nothing if it knows none.
action_of() {
    ufw show added | awk -v rule="$1" '{
        action = $2
        sub(/^ufw [a-z]+ /, "")
        sub(/ comment .*$/, "")
    } $0 == rule { print action; exit }'
}

# A rule that is there stays, also with another action: somebody wanted it so.
allow() {
    rule=$*
    case $(action_of "$rule") in
    allow | limit) ;;
    '')
        # shellcheck disable=SC2086 # a list of words
        run "firewall: ufw allow $rule" ufw allow $rule
        new "allowed $rule"
        ;;
    *) left_alone="$left_alone; $rule is refused by a rule of yours, and left so" ;;
    esac
}

from_private() { allow in on "$interface" from "$network" to any port "$1" proto "$2"; }

# The ports that Docker publishes (`docker run -p`) do not come by here: it forwards them past ufw.
# Nor is what goes out restricted; if you did so, it stays.
step_firewall() {
    left_alone=''
    for port in $(ssh_ports) $(this_port); do allow "$port/tcp"; done
    case $HOST_ROLE in
    kvstore) from_private 8500 tcp ;;
    node)
        for port in 80 443 2376 3376; do allow "$port/tcp"; done
        from_private 7946 tcp
        from_private 7946 udp
        from_private 4789 udp
        ;;
    esac
    if grep -q '^DEFAULT_INPUT_POLICY="ACCEPT"' /etc/default/ufw; then
        run "firewall: ufw default deny incoming" ufw default deny incoming
        new "denied what else comes in"
    fi
    if ! ufw status | grep -q '^Status: active'; then
        run "firewall: ufw enable" ufw --force enable
        new "turned on"
    fi
    if ! systemctl -q is-enabled ufw.service; then
        run "firewall: systemctl enable ufw" systemctl enable ufw.service
        new "enabled for the next boot"
    fi
    told firewall "on, and all rules are there$left_alone"
}

# --- fail2ban ---------------------------------------------------------------------------------------

# Debian 12 has no auth.log, so the journal is read.
step_fail2ban() {
    if put /etc/fail2ban/jail.d/ovl.local <<END
# Written by ovlctl droplet provision. Settings of your own: in another file here, zz-NAME.local.
[sshd]
enabled = true
backend = systemd
port = $(ssh_ports | paste -s -d ,)
END
    then
        systemd restart fail2ban.service
    fi
    service fail2ban.service
    within 20 fail2ban-client status sshd >"$work/said" 2>&1 ||
        fail "fail2ban: it does not watch sshd: $(cause)"
    told fail2ban "watches sshd"
}

# --- the key-value store ----------------------------------------------------------------------------

candidate() { apt-cache policy "$1" | grep -q '^  Candidate: [^(]'; }

# HashiCorp's own packages, where Debian has none.
hashicorp() {
    keyring=/usr/share/keyrings/hashicorp-archive-keyring.gpg
    from=https://apt.releases.hashicorp.com
    packages gpg
    run "consul: $from/gpg" curl -fsS --proto =https --max-time 60 --retry 3 -o "$work/key" "$from/gpg"
    mkdir -m 700 "$work/gnupg"
    keys=$(gpg --homedir "$work/gnupg" --show-keys --with-colons "$work/key" 2>/dev/null |
        awk -F: '$1 == "pub" { next_is = 1 } $1 == "fpr" && next_is { print $10; next_is = 0 }' |
        paste -s -d ' ') || keys=''
    [ "$keys" = "$hashicorp_key" ] ||
        fail "consul: the key at $from/gpg is ${keys:-none}, not $hashicorp_key: not trusted; install consul yourself"
    run "consul: gpg" gpg --homedir "$work/gnupg" --yes --dearmor -o "$work/keyring" "$work/key"
    install -D -m 644 "$work/keyring" "$keyring"
    # shellcheck disable=SC1091 # of the machine, not of the project
    codename=$(. /etc/os-release && say "$VERSION_CODENAME")
    put /etc/apt/sources.list.d/hashicorp.list <<END || true
deb [signed-by=$keyring] $from $codename main
END
    lists_are_fresh=''
    update
}

# The program. A service that came with it is off: it would not be bound to the private address.
consul_package() {
    if ! command -v consul >/dev/null; then
        candidate consul || update
        candidate consul || hashicorp
        packages consul
    fi
    for state in is-active is-enabled; do
        if systemctl -q "$state" consul.service 2>/dev/null; then
            run "consul: systemctl disable consul" systemctl disable --now consul.service
            new "turned consul.service off, for ovl-kvstore.service"
        fi
    done
}

# `$1`: more ports. Nothing is bound to but the private address. The multiplier is that of a server
# that is alone: it leads in a second.
consul_json() {
    cat <<END
{
  "server": true,
  "bootstrap_expect": 1,
  "bind_addr": "$private",
  "client_addr": "$private",
  "data_dir": "/var/lib/ovl-kvstore",
  "ports": { "dns": -1, "grpc": -1,$1 "serf_wan": -1 },
  "performance": { "raft_multiplier": 1 },
  "disable_update_check": true,
  "log_level": "INFO"
}
END
}

# Consul before 1.14 does not know this port, and later ones open it unless told.
consul_settings() {
    consul_json ' "grpc_tls": -1,' >"$work/consul.json"
    if ! consul validate "$work/consul.json" >"$work/said" 2>&1; then
        consul_json '' >"$work/consul.json"
        run "consul: consul validate" consul validate "$work/consul.json"
    fi
    put /etc/ovl-kvstore/consul.json <"$work/consul.json"
}

# Ready is told by Consul only when it has joined others, so it is not waited for by systemd.
consul_unit() {
    put /etc/systemd/system/ovl-kvstore.service <<END
# Written by ovlctl droplet provision. To change this unit: systemctl edit ovl-kvstore. Settings of
# Consul of your own, say of tokens: in a second file beside /etc/ovl-kvstore/consul.json.
[Unit]
Description=Consul, the key-value store of the cluster
Documentation=https://developer.hashicorp.com/consul/docs
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=$(command -v consul) agent -config-dir=/etc/ovl-kvstore
ExecReload=/bin/kill -HUP \$MAINPID
Restart=always
RestartSec=1s
LimitNOFILE=65536

DynamicUser=yes
StateDirectory=ovl-kvstore
StateDirectoryMode=0700
UMask=0077
CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service

[Install]
WantedBy=multi-user.target
END
}

has_leader() {
    curl -fsS --noproxy '*' --max-time 2 "http://$private:8500/v1/status/leader" >"$work/said" 2>&1 &&
        grep -q '[0-9]' "$work/said"
}

step_consul() {
    consul_package
    restart=''
    if consul_settings; then restart=yes; fi
    if consul_unit; then
        restart=yes
        run "consul: systemctl daemon-reload" systemctl daemon-reload
    fi
    if [ "$restart" ] && active ovl-kvstore.service; then
        systemd restart ovl-kvstore.service
        new "restarted ovl-kvstore.service"
    fi
    service ovl-kvstore.service
    within 60 has_leader ||
        fail "consul: no leader at http://$private:8500 after a minute: $(last_words ovl-kvstore.service)"
    told consul "serves at $private:8500"
}

# --- the agent --------------------------------------------------------------------------------------

agent_block() {
    say "$begin_mark"
    say "advertise = \"$advertise\""
    say "$HOST_SETTINGS"
    say "$end_mark"
}

# The file with its block replaced, or put before all else. Fails where the block has no end.
with_block() {
    if ! grep -qxF "$begin_mark" "$agent_toml"; then
        cat "$work/block"
        echo
        cat "$agent_toml"
        return
    fi
    awk -v begin="$begin_mark" -v end="$end_mark" -v block="$work/block" '
        $0 == begin && !inside && !done { inside = 1; while ((getline line < block) > 0) print line; next }
        inside { if ($0 == end) { inside = 0; done = 1 } next }
        { print }
        END { exit inside }' "$agent_toml"
}

# Settings of the block that stand in the file outside of it, too.
twice() {
    awk -v begin="$begin_mark" -v end="$end_mark" '
        $0 == begin { inside = 1 } $0 == end { inside = 0 }
        !inside && match($0, /^[ \t"]*(advertise|store|join)[ \t"]*=/) {
            sub(/=.*/, ""); gsub(/[ \t"]/, ""); printf "%s%s", said++ ? ", " : "", $0
        }' "$1"
}

# What is between the marks is ours, and what changes there is shown; the rest is the operator's, and
# stays. Of the settings only `join` is taken by a reload. False where the file must stay as it is.
agent_settings() {
    agent_block >"$work/block"
    if ! [ -e "$agent_toml" ]; then
        put "$agent_toml" <"$work/block"
        echo restart >"$wants_mark"
        return
    fi
    if ! with_block >"$work/toml"; then
        complain "agent: $agent_toml lacks the line \"$end_mark\": put it back below the settings of the first lines"
        return 1
    fi
    double=$(twice "$work/toml")
    if [ "$double" ]; then
        complain "agent: $agent_toml sets $double by hand, so it stays as it is: take that out, and run this again"
        return 1
    fi
    if cmp -s "$work/toml" "$agent_toml"; then return 0; fi
    changed=$(difference)
    # Before the file is there: who is stopped in between must not forget what the agent still needs.
    if grep -qv '^join' "$work/differs"; then
        echo restart >"$wants_mark"
    elif [ -s "$work/differs" ] && ! [ -e "$wants_mark" ]; then
        echo reload >"$wants_mark"
    fi
    # In a condition the shell goes on after a failure: a full disk must not put half a file in place.
    { cp -p "$agent_toml" "$agent_toml.old" && cp -p "$agent_toml" "$agent_toml.new" &&
        cat "$work/toml" >"$agent_toml.new" && mv "$agent_toml.new" "$agent_toml"; } ||
        fail "agent: cannot write $agent_toml"
    new "$agent_toml (it was: $agent_toml.old): $changed"
}

# The settings that are other than before, as they are now; they stay in $work/differs.
difference() {
    grep -vxF -f "$agent_toml" "$work/block" | grep -v '^#' >"$work/differs" || true
    paste -s -d ' ' "$work/differs"
}

# Sets package: the path of the file to install.
package_file() {
    package=$HOST_PACKAGE_FROM
    if [ "$HOST_PACKAGE" = file ]; then
        [ -f "$package" ] || fail "agent: there is no file $package on this machine"
        return
    fi
    protocols='=https'
    if [ "$HOST_SHA256" ]; then protocols='=http,https'; fi
    package=$work/ovl.deb
    run "agent: $HOST_PACKAGE_FROM" curl -fsSL --proto "$protocols" --proto-redir "$protocols" \
        --connect-timeout 20 --max-time 600 --retry 3 -o "$package" -- "$HOST_PACKAGE_FROM"
}

# The same version changes nothing; another one, also a lower one, was asked for by name.
agent_package() {
    have=$(dpkg-query -W -f '${db:Status-Status} ${Version}' ovl 2>/dev/null) || have=''
    case $have in installed\ *) have=${have#* } ;; *) have='' ;; esac
    if [ "$HOST_PACKAGE" = installed ]; then
        command -v ovl-agent >/dev/null || fail "agent: ovl is not installed, and no package was given"
        return
    fi
    package_file
    if [ "$HOST_SHA256" ] && ! say "$HOST_SHA256  $package" | sha256sum -c --status 2>/dev/null; then
        fail "agent: $HOST_PACKAGE_FROM is not the package with the SHA-256 $HOST_SHA256"
    fi
    name=$(dpkg-deb -f "$package" Package 2>"$work/said") || fail "agent: $HOST_PACKAGE_FROM: $(cause)"
    [ "$name" = ovl ] || fail "agent: $HOST_PACKAGE_FROM is the package $name, not ovl"
    version=$(dpkg-deb -f "$package" Version)
    if [ "$version" = "$have" ]; then return; fi
    # To apt a package in a file begins with a slash; its own user is to read it.
    chmod 755 "$work"
    install -m 644 "$package" "$work/install.deb"
    # What it depends on is mostly there; if not, the lists may be old.
    apt-get -q -s install --allow-downgrades "$work/install.deb" >>"$log" 2>&1 || update
    apt_get "agent: $HOST_PACKAGE_FROM" install --allow-downgrades "$work/install.deb"
    new "installed ovl $version${have:+ in place of $have}"
    # The package has started the agent anew.
    rm -f "$wants_mark"
}

# Before the package, so that the agent never starts with other settings.
step_agent() {
    agent_settings || return 0
    agent_package
    run "agent: $agent_toml" ovl-agent --check-config
    if [ -e "$wants_mark" ] && active ovl-agent.service; then
        wants=$(cat "$wants_mark")
        systemd "$wants" ovl-agent.service
        new "${wants}ed ovl-agent.service"
    fi
    rm -f "$wants_mark"
    service ovl-agent.service
    told agent "runs as it should, ovl $(dpkg-query -W -f '${Version}' ovl 2>/dev/null || echo of another origin)"
}

# --- all of it --------------------------------------------------------------------------------------

# cloud-init's run and one over ssh wait for each other.
begin() {
    export LC_ALL=C DEBIAN_FRONTEND=noninteractive
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    umask 022
    work=$(mktemp -d)
    trap ended EXIT
    trap 'exit 130' INT TERM HUP
    : >"$work/said"
    step=start
    [ "$(id -u)" -eq 0 ] || fail "this needs root"
    exec 9>/run/ovl-provision.lock
    if flock -n 9; then return; fi
    say "another provisioning of this machine is at work: waiting for its end"
    flock -w 900 9 || fail "another provisioning of this machine has not ended for 15 minutes"
}

provision() {
    begin
    steps='packages memory firewall fail2ban'
    if [ "$HOST_ROLE" = kvstore ]; then steps="$steps consul"; fi
    if [ "$HOST_PACKAGE" ]; then steps="$steps agent"; fi
    for step in $steps; do
        if [ "$step" = firewall ]; then find_private; fi
        "step_$step"
    done
    step=end
    if [ "$changes" -eq 0 ] && [ "$failures" -eq 0 ]; then say "= nothing changed"; fi
    [ "$failures" -eq 0 ]
}

# Nothing reads the rest of this from standard input, and half a script does nothing.
provision </dev/null
