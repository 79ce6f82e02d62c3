#!/bin/sh
# Puts each fault of mutants/table.txt into a copy of the sources, runs the simulation there, and
# prints which world caught it. Fails if one survives. Only those whose name has one of the words
# that are given, if any are.
#   mutants/run.sh [WORDS]...
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
work=${TOWPATH_MUTANTS:-${TMPDIR:-/tmp}/towpath-mutants}
mkdir -p "$work/tree" "$work/target"
export CARGO_TARGET_DIR="$work/target" RUST_BACKTRACE=0
survivors=0
words=
for word in "$@"; do
    words="$words${words:+
}$word"
done

field() { sed -n "s/^$1: //p" "$work/mutant"; }

wanted() {
    [ -n "$words" ] || return 0
    while IFS= read -r word; do
        case $1 in *"$word"*) return 0 ;; esac
    done <<EOF
$words
EOF
    return 1
}

try() {
    name=$(field name) file=$(field file)
    wanted "$name" || return 0
    cp "$work/clean/$file" "$work/tree/$file"
    OLD=$(field old) NEW=$(field new) perl -0pi -e \
        '$n = s/\Q$ENV{OLD}\E/$ENV{NEW}/g; die "`$ENV{OLD}` is there $n times\n" if $n != 1' \
        "$work/tree/$file"
    if ! (cd "$work/tree" && cargo test -q --test simulation --no-run) >"$work/log" 2>&1; then
        verdict="does not build: $(grep -m1 '^error' "$work/log" || true)"
        survivors=$((survivors + 1))
    elif (cd "$work/tree" && cargo test -q --test simulation unkind) >"$work/log" 2>&1; then
        verdict="SURVIVES"
        survivors=$((survivors + 1))
    else
        verdict=$(sed -n 's/^.*\(seed [0-9]* breaks promise.*\)$/\1/p' "$work/log" | sort | head -n 1)
        verdict=${verdict:-$(grep -m1 'too kind' "$work/log" || echo "fails otherwise")}
    fi
    printf '%-40s %s\n' "$name" "$verdict"
    cp "$work/clean/$file" "$work/tree/$file"
}

rm -rf "$work/tree"
mkdir -p "$work/tree"
for part in Cargo.toml Cargo.lock clippy.toml src tests benches examples schemas; do
    cp -R "$here/$part" "$work/tree/"
done
# What is edited meanwhile must not get in.
rm -rf "$work/clean"
mkdir -p "$work/clean"
cp -R "$work/tree/src" "$work/clean/"
rm -f "$work/mutant"
while IFS= read -r line || [ -n "$line" ]; do
    case $line in
    "#"*) ;;
    "") if [ -s "$work/mutant" ]; then try </dev/null; fi; : >"$work/mutant" ;;
    *) printf '%s\n' "$line" >>"$work/mutant" ;;
    esac
done <"$here/mutants/table.txt"
if [ -s "$work/mutant" ]; then try </dev/null; fi
if [ "$survivors" -gt 0 ]; then
    echo "$survivors of them survive" >&2
    exit 1
fi
