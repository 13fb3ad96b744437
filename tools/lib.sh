# shellcheck shell=sh
# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sourced by the tools, which set `tools` to their own directory first.

: "${tools:?set to the directory of the tools before sourcing lib.sh}"

root=$(cd "$tools/.." && pwd -P)
work=$root/.work
# shellcheck disable=SC2034 # for those who source this
tree=$work/ansible_collections/stasis/lxc
# What is slow to make and the same for every checkout: root file systems, disk images.
# shellcheck disable=SC2034 # for those who source this
cache=${STASIS_CACHE:-/var/cache/stasis-test}

die() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    [ -z "${2:-}" ] || printf '%s: %s\n' "${0##*/}" "$2" >&2
    exit 1
}

# pyenv's shims answer to names of Pythons that they cannot run; ansible-test takes them for real.
path_without_shims() {
    printf '%s\n' "$PATH" | tr ':' '\n' | grep -v '/shims$' | paste -s -d: -
}

# python_for VERSION: prints the real interpreter, or fails.
python_for() {
    for candidate in "/usr/local/bin/python$1" "/usr/bin/python$1" \
        "${PYENV_ROOT:-${STASIS_USER_HOME:-$HOME}/.pyenv}/versions/$1".*/bin/"python$1" \
        "$work/debian-python/usr/bin/python$1" "$work/uv-python"/*"-$1".*/bin/"python$1"; do
        if [ -x "$candidate" ]; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

# Everything that Ansible and its tools would write below the home directory goes below .work.
private_environment() {
    STASIS_USER_HOME=${STASIS_USER_HOME:-$HOME}
    HOME=$work/home
    XDG_CACHE_HOME=$HOME/.cache
    ANSIBLE_HOME=$HOME/.ansible
    ANSIBLE_LOCAL_TEMP=$ANSIBLE_HOME/tmp
    ANSIBLE_COLLECTIONS_PATH=$work
    ANSIBLE_NOCOWS=1
    PATH=$work/pythons:$work/venv/bin:$(path_without_shims)
    export STASIS_USER_HOME HOME XDG_CACHE_HOME ANSIBLE_HOME ANSIBLE_LOCAL_TEMP \
        ANSIBLE_COLLECTIONS_PATH ANSIBLE_NOCOWS PATH
    unset PYTHONPATH ANSIBLE_CONFIG ANSIBLE_ROLES_PATH VIRTUAL_ENV
    mkdir -p "$HOME/.config" "$ANSIBLE_LOCAL_TEMP"
    # pip must go on finding the index that this user has configured.
    for config in .config/pip .pip .config/uv; do
        if [ -e "$STASIS_USER_HOME/$config" ] && [ ! -e "$HOME/$config" ]; then
            ln -s "$STASIS_USER_HOME/$config" "$HOME/$config"
        fi
    done
}

# alone: waits until no other lint or unit run works in this checkout; they share ansible-test's output.
alone() {
    exec 8>"$work/ansible-test.lock"
    flock -n 8 && return
    printf '%s: waiting for another run in this checkout\n' "${0##*/}"
    flock 8
}

# count PASSED FAILED: what a stage adds to the summary of tools/test.
count() {
    [ -z "${STASIS_RESULTS:-}" ] || printf '%s %s\n' "$1" "$2" >>"$STASIS_RESULTS/counts"
}

# The mirror from which this host gets Debian: the first entry of its own release's main, else of any.
debian_mirror() {
    # shellcheck disable=SC2016 # apt replaces these
    apt-get indextargets --format '$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk -F '|' -v codename="$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")" '
            $1 != "Debian" || $3 != "main" { next }
            $2 == codename { print $4; found = 1; exit }
            !spare { spare = $4 }
            END { if (!found && spare) print spare; exit !(found || spare) }'
}

# The mirror of Debian's security updates, or nothing.
debian_security_mirror() {
    # shellcheck disable=SC2016 # apt replaces these
    apt-get indextargets --format '$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk -F '|' '$1 == "Debian" && $2 ~ /-security$/ && $3 == "main" { print $4; exit }'
}

# What this host's apt needs to reach its mirror, for an apt in a tree of its own.
apt_settings() {
    apt-config dump | grep -i -E '^Acquire::(Check-Valid-Until|Check-Date|Retries|https?::Proxy) ' || :
}
