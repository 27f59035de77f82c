# shellcheck shell=bash
# Sourced by the scripts beside it and by ci/engine: packages from where this machine itself gets them.

# machine_codename: the suite that this machine runs, as /etc/os-release names it.
machine_codename() (
    # shellcheck source=/dev/null
    . /etc/os-release
    printf '%s\n' "${VERSION_CODENAME:?/etc/os-release has no VERSION_CODENAME}"
)

# machine_indexes: one line "suite uri component..." for each archive of the machine's own distribution.
# apt is asked instead of its files, so that deb822 .sources, one-line .list, options and included
# folders all mean here what they mean to apt. apt answers only for suites whose lists it has fetched.
machine_indexes() {
    local origin
    # shellcheck source=/dev/null
    origin=$(. /etc/os-release && printf '%s' "$ID")
    # shellcheck disable=SC2016 # the dollars are apt's own
    apt-get indextargets --format '$(CREATED_BY) $(ORIGIN) $(CODENAME) $(RELEASE) $(REPO_URI) $(COMPONENT)' |
        awk -v origin="$origin" -v codename="$(machine_codename)" '
            $1 == "Packages" && tolower($2) == origin && index($3, codename) == 1 {
                key = $4 " " $5
                if (!(key in components)) { order[++n] = key; components[key] = "" }
                if (index(components[key] " ", " " $6 " ") == 0) components[key] = components[key] " " $6
            }
            END { for (i = 1; i <= n; i++) print order[i] components[order[i]] }' |
        while read -r suite uri components; do
            printf '%s %s %s\n' "$suite" "$(plain_uri "$uri")" "$components"
        done
}

# plain_uri URI: the first mirror of a mirror+file: list (cloud images use them), any other URI as it is.
plain_uri() {
    case $1 in
        mirror+file:*) awk '!/^#/ && NF { print $1; exit }' "/${1#mirror+file:/}" ;;
        *) printf '%s\n' "$1" ;;
    esac
}

# machine_mirror: the URI that the machine's own main suite comes from.
machine_mirror() {
    machine_indexes | awk 'NR == 1 { print $2 }'
}

# refresh_lists: apt-get update, tried again because another apt may hold the lock for a while.
refresh_lists() {
    local attempt
    for attempt in 1 2 3 4 5; do
        apt-get -qq update && return 0
        sleep $((attempt * 2))
    done
    return 1
}

# apt_install PACKAGE...: install what is missing, without a question, and tell of it on stderr.
apt_install() {
    local missing=() package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "installing ${missing[*]}" >&2
    local install=(apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --no-install-recommends -y)
    DEBIAN_FRONTEND=noninteractive "${install[@]}" "${missing[@]}" >/dev/null 2>&1 && return 0
    # The first attempt fails where the lists are empty or old.
    refresh_lists && DEBIAN_FRONTEND=noninteractive "${install[@]}" "${missing[@]}" >&2
}
