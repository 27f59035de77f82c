#!/bin/sh
# usage: tests/run.sh HEXSUM: check a built hexsum against known answers, and against sha256sum where there is one.
set -eu

# A relative name that has a folder in it would not survive the cd below.
hexsum=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

failed=0
count=0
is() { # is WHAT GOT WANTED
    count=$((count + 1))
    [ "$2" != "$3" ] || return 0
    failed=$((failed + 1))
    printf 'FAILED: %s\n   got: %s\nwanted: %s\n' "$1" "$2" "$3"
}
ending() { # ending COMMAND...: its exit code, whatever it prints
    code=0
    "$@" >/dev/null 2>&1 || code=$?
    echo "$code"
}

empty=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
abc=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad

printf abc >abc
: >empty
is 'a file' "$("$hexsum" abc)" "$abc  abc"
is 'an empty file' "$("$hexsum" empty)" "$empty  empty"
is 'standard input' "$("$hexsum" <abc)" "$abc  -"
is 'a dash' "$("$hexsum" - <abc)" "$abc  -"
is 'two files' "$("$hexsum" abc empty)" "$abc  abc
$empty  empty"

printf abc >'--version'
is 'a name like an option' "$("$hexsum" -- --version)" "$abc  --version"
odd='back\slash
newline'
printf abc >"$odd"
is 'an odd name' "$("$hexsum" "$odd")" "\\$abc  back\\\\slash\\nnewline"

is 'the self-test ends with ok' "$("$hexsum" --self-test | tail -n 1)" ok
is 'the self-test has five answers' "$("$hexsum" --self-test | grep -c ' ')" 5
is 'the version is one line' "$("$hexsum" --version | grep -c '^hexsum [^ ]*$')" 1

is 'a missing file: code' "$(ending "$hexsum" missing)" 1
is 'a missing file: text' "$("$hexsum" missing 2>&1 || :)" 'hexsum: missing: No such file or directory'
is 'a folder: code' "$(ending "$hexsum" .)" 1
is 'others go on' "$("$hexsum" missing abc 2>/dev/null || :)" "$abc  abc"
is 'an unknown option: code' "$(ending "$hexsum" --sha1)" 2
if [ -w /dev/full ]; then
    full=0
    "$hexsum" abc >/dev/full 2>/dev/null || full=$?
    is 'a full disk: code' "$full" 1
fi

# Every length around one and two blocks takes another way through the padding.
if command -v sha256sum >/dev/null; then
    text=
    while [ ${#text} -lt 130 ]; do
        printf %s "$text" >piece
        is "${#text} bytes" "$("$hexsum" piece)" "$(sha256sum piece)"
        text=${text}x
    done
    dd if=/dev/zero of=large bs=1000 count=1001 2>/dev/null
    is 'larger than the buffer' "$("$hexsum" large)" "$(sha256sum large)"
fi

if [ "$failed" -gt 0 ]; then
    echo "$failed of $count checks failed"
    exit 1
fi
echo "all $count checks passed"
