# A session: from the hello over requests to the end; and how the runner itself is kept.

# Reads COUNT values from stdin; `values` are their names, for `eval`.
read_values() {
  values= rows=0
  while [ "$rows" -lt "$count" ]; do
    IFS= read -r row || return 1
    case $row in
      =*) value=${row#=} ;;
      +*)
        more=${row#+} value=
        number "$more" || return 1
        while [ "$more" -gt 0 ]; do
          IFS= read -r row || return 1
          more=$((more - 1)) value=$value$row
          [ "$more" -eq 0 ] || value=$value$nl
        done ;;
      *) return 1 ;;
    esac
    eval "value_$rows=\$value"
    values="$values \"\$value_$rows\"" rows=$((rows + 1))
  done
}

# Becomes a command in a group of its own, with some variables.
become() { # SIGNAL SECONDS VARIABLES [NAME=VALUE...] PROGRAM [ARGUMENT...]
  signal=$1 seconds=$2 variables=$3
  # Not earlier: our own tools need no locale, and to load one takes them a third of their time.
  export LANG=C.UTF-8
  shift 3
  while [ "$variables" -gt 0 ]; do
    export "$1"
    shift
    variables=$((variables - 1))
  done
  cd "$HOME" 2>/dev/null || cd /
  umask 022; unset OLDPWD
  exec $GROUP "$TIMEOUT" -s "$signal" -k "$GRACE" "$seconds" "$@"
}

# Takes another version of this file from stdin, and becomes it.
install() { # SUM
  while IFS= read -r row; do
    [ "$row" != "towpath-runner $1" ] || break
  done
  fresh=$D/.runner.$$
  while IFS= read -r row; do
    [ "$row" != "towpath-end $1" ] || break
    printf '%s\n' "$row"
  done >"$fresh" || refuse "cannot write in $D"
  [ "$(sha256sum <"$fresh")" = "$1  -" ] || { rm -f "$fresh"; refuse "the runner arrived garbled"; }
  target=$D/runner-$(printf %.16s "$1")
  chmod 700 "$fresh" && sync "$fresh" && mv -f "$fresh" "$target" && sync "$D" ||
    refuse "cannot write in $D"
  exec env -i HOME="$HOME" PATH="$PATH" /bin/sh "$target" serving "$1" installed
} 2>/dev/null

refuse() { # WHY
  printf 'towpath %s trouble %s\n' "$nonce" "$1"
  exit 1
}

# Keeps a few versions, and a name that does not change, for authorized_keys.
tidy() {
  ln -sfn "${0##*/}" "$D/runner.new" && mv -f "$D/runner.new" "$D/runner"
  set +f
  ls -t "$D"/runner-* | tail -n +4 | while IFS= read -r old; do
    rm -f "$old" "$D/.checked-${old##*/runner-}"
  done
  set -f
} 2>/dev/null

# Removes what sessions that are over left behind, now and then.
sweep() {
  set +f
  set -- "$D"/.tmp.*
  set -f
  [ $# -gt 60 ] || return 0
  for left; do
    owner=${left##*/.tmp.} owner=${owner%%.*}
    shift
    [ -e "/proc/$owner" ] || set -- "$@" "$left"
  done
  [ $# = 0 ] || rm -f "$@"
} 2>/dev/null

# A word that this directory has to itself until the machine boots: two names for one machine find
# the same. Whoever is first makes it. Containers boot when their first process is born.
machine() {
  born=
  birth 1
  file=$D/.machine-$boot-${born:-0}
  { read -r word <"$file" && name "$word"; } && return
  read -r word </proc/sys/kernel/random/uuid && echo "$word" >"$D/.word.$$" && ln "$D/.word.$$" "$file"
  rm -f "$D/.word.$$"
  set +f
  for old in "$D"/.machine-*; do
    [ "$old" = "$file" ] || rm -f "$old"
  done
  set -f
  read -r word <"$file" && name "$word" || word=
} 2>/dev/null

# The first program of a name.
find() { # NAME
  found=
  IFS=:
  for directory in $PATH; do
    [ ! -x "$directory/$1" ] || { found=$directory/$1; break; }
  done
  unset IFS
  [ -n "$found" ]
}

serving() { # SUM [installed]
  D=${0%/*} sum=$1
  read -r word format nonce wanted theirs rest || exit 0
  [ "$word $format" = "towpath 1" ] && name "$nonce" && number "$theirs" || exit 64
  if [ "$wanted" != "$sum" ]; then
    printf 'towpath %s need\n' "$nonce"
    install "$wanted"
  fi
  for tool in flock setsid base64 sha256sum mkfifo dd tail sync timeout; do
    find "$tool" || refuse "there is no $tool on the node; install coreutils and util-linux"
  done
  TIMEOUT=$found GROUP=
  # coreutils' begins a process group, those in one program with others do not.
  for many in busybox toybox; do
    ! find "$many" || [ ! "$TIMEOUT" -ef "$found" ] || { find setsid; GROUP=$found; }
  done
  tick
  base=$((theirs - up)) skew=0
  read -r boot </proc/sys/kernel/random/boot_id || refuse "/proc is not there"
  [ $# -lt 2 ] || tidy
  sweep
  machine
  printf 'towpath %s ready %s%s\n' "$nonce" "$theirs" "${word:+ $word}"
  exec 3>&1 >/dev/null
  served=0
  # The answer to a hello is for the right login only; a request is for the right place only.
  while read -r id verb place count words; do
    number "$id" && name "$place" && number "$count" && read_values || break
    P=$D/places/$place tmp=$D/.tmp.$$.r$id
    case $verb in
      run) ask_run $words </dev/null | keep 3>&- & ;;
      ask) slot; ask_ask $words </dev/null & ;;
      state | fence | log | kill) "ask_$verb" $words </dev/null & ;;
      *) say bad ;;
    esac
    served=$((served + 1))
    # Who has ended is waited for now and then.
    [ "$((served % 32))" != 0 ] || (:)
  done
  # Nobody listens any more; who is busy goes on to its end.
  exit 0
} 2>/dev/null

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
case ${1-} in
  serving) shift; serving "$@" ;;
  # As a forced command: whatever the other side asked to run, it gets this.
  serve)
    sum=$(sha256sum <"$0")
    env -i HOME="$HOME" PATH="$PATH" setsid /bin/sh "$0" serving "${sum%% *}"
    exit $? ;;
  *) echo "towpath's runner is for towpath itself" >&2; exit 64 ;;
esac
