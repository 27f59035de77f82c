# shellcheck shell=bash
# Sourced after containers/apt.sh: packages of another suite, unpacked beside the machine's own.
# Not a part of containers/apt.sh, because whatever changes there makes every toolchain image anew.

# Options that make apt-get and apt-cache read another suite, once use_suite has named one.
suite_apt=()

# use_suite SUITE FOLDER: apt for another suite, from the machine's own mirror, with nothing of the machine's changed.
# What that apt knows lies in FOLDER. Fails where the mirror has no such suite, or the machine names no mirror.
use_suite() {
    local suite=$1 apt_dir=$2 mirror
    mirror=$(machine_mirror)
    [ -n "$mirror" ] || { refresh_lists && mirror=$(machine_mirror); }
    [ -n "$mirror" ] || { echo "no mirror found in the machine's apt sources" >&2 && return 1; }
    mkdir -p "$apt_dir/lists/partial" "$apt_dir/cache/archives/partial"
    printf 'deb %s %s main\n' "$mirror" "$suite" >"$apt_dir/sources.list"
    printf '#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n' >"$apt_dir/apt.conf"
    suite_apt=(-c "$apt_dir/apt.conf" -o "Dir::Etc::sourcelist=$apt_dir/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o "Dir::State::lists=$apt_dir/lists" -o "Dir::Cache=$apt_dir/cache")
    apt-get "${suite_apt[@]}" -qq update
}

# suite_candidate PACKAGE: the version that the suite of use_suite, else the machine itself, would give.
suite_candidate() {
    apt-cache "${suite_apt[@]}" policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'
}

# unpack_packages TREE PACKAGE...: unpack packages of that suite into a new folder. Nothing is installed or started.
unpack_packages() {
    local tree=$1 downloads=$1.downloads package
    shift
    rm -rf "$tree" "$downloads"
    mkdir -p "$tree" "$downloads"
    (cd "$downloads" && apt-get "${suite_apt[@]}" -qq -o APT::Sandbox::User=root download "$@") || return 1
    for package in "$downloads"/*.deb; do dpkg -x "$package" "$tree" || return 1; done
    rm -rf "$downloads"
}
