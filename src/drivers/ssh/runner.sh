#!/bin/sh
# Towpath's runner on a node: begins steps once, watches over them, and answers for them.
# Towpath installs and updates it by itself. It needs coreutils, flock and setsid.
#
# One session serves one login. It reads requests on stdin and answers each when it can, so
# answers come in any order. A request is a line `ID VERB PLACE COUNT WORD...` and COUNT values,
# each a line `=TEXT`, or a line `+LINES` and so many lines of text. An answer is any number of
# lines `NONCE ID STREAM BASE64` and one line `NONCE ID . WORD...`, each short enough to be one
# write. What commands print never gets there but as base64.
#
# A step is a directory `places/PLACE/steps/KEY`:
#   lock    held by the runner that watches over the step, until it has written `exit`
#   start   durable before the command runs: boot, runner, command, times, tries
#   exit    how it ended; from here on it is done
#   log     the beginning of what it printed, `log.tail` the end
#   kill    somebody asked that it be killed
set -uf
umask 077
LC_ALL=C

LOG_MAX=524288   # bytes of the end, and as many of the beginning, or 4096 writes of it
ASK_MAX=4097     # one more than an answer may have
GRACE=5          # seconds between TERM and KILL
KEPT=200         # steps remembered in a place
TRIES_MAX=2      # begun under one key; a second loss is for a person to look at
nl='
'

say() { printf '%s %s . %s\n' "$nonce" "$id" "$*"; }

# A file as lines of base64.
send() { # STREAM FILE
  [ -s "$2" ] || return 0
  base64 -w 900 <"$2" | while IFS= read -r chunk || [ -n "$chunk" ]; do
    printf '%s %s %s %s\n' "$nonce" "$id" "$1" "$chunk"
  done
}

number() { case $1 in '' | *[!0-9]* | ????????????????????*) return 1 ;; esac; }
name() { case $1 in '' | .* | *[!A-Za-z0-9._-]*) return 1 ;; esac; }

# Milliseconds since boot; and by the wall, which is asked once a session.
tick() { read -r up rest </proc/uptime && up=${up%.*}${up#*.}0; }
clock() { tick; now=$((base + up)); }

# An id alone is soon another's, an id with the time of its birth is not.
birth() { # PROCESS
  { read -r stat </proc/"$1"/stat; } 2>/dev/null || return 1
  stat=${stat##*) }
  set -- $stat
  case $1 in [ZXx]) return 1 ;; esac
  born=${20}
}
alive() { [ "$1" -gt 1 ] && birth "$1" && [ "$born" = "$2" ]; }
# Whether a command lives, or its group without it.
left() {
  [ "$command" -gt 1 ] || return 1
  [ -e "/proc/$command" ] || { kill -0 "-$command"; return; }
  alive "$command" "$command_born"
} 2>/dev/null
# In a subshell `$$` is somebody else.
myself() { read -r me rest </proc/self/stat && birth "$me"; }

ended() {
  { read -r word format exit value started finished whole <"$step/exit"; } 2>/dev/null &&
    [ "$whole" = end ] && seen=done
}

locked() { [ -e "$1" ] && ! flock -n -s 9 9<"$1"; }

# How a step stands: absent, starting, running, orphaned (its runner is gone, its command lives),
# done or lost.
look() { # KEY
  step=$P/steps/$1
  ended && return
  tries=1 command=0 command_born=0 began=0 deadline=0 whole=
  [ -d "$step" ] || { seen=absent; return; }
  if { read -r word format boot_then runner runner_born command command_born began deadline tries \
    whole <"$step/start"; } 2>/dev/null && [ "$whole" = end ]; then
    if [ "$boot_then" = "$boot" ]; then
      if alive "$runner" "$runner_born"; then seen=running; ended; return; fi
      if left; then seen=orphaned; ended; return; fi
    fi
    # Another try may be about to begin.
    seen=lost
    ! locked "$step/lock" || seen=starting
  elif locked "$step/lock"; then
    seen=starting
  elif [ -s "$step/start" ]; then
    # A power cut left half of it: begun, and how it ended is not known.
    seen=lost tries=1 command=0 command_born=0 began=0
  else
    seen=absent
  fi
  # The end may have come between the two looks.
  ended
}

make_place() { [ -d "$P/steps" ] || { mkdir -p "$P/steps" && sync "$P/steps" "$P" "$D/places" "$D"; }; }

# Holds back all others who decide here, until fd 8 is closed.
gate() {
  make_place 2>/dev/null || { say io "cannot make $P"; return 1; }
  { exec 8>"$P/gate"; } 2>/dev/null || { say io "cannot write in $P"; return 1; }
  flock -n 8 || timeout 30 flock 8 || { say io "nobody opens the gate of $P"; return 1; }
}

fence() {
  fence_store='' fence_epoch=0
  [ -e "$P/fence" ] || return 0
  { read -r fence_store fence_epoch <"$P/fence"; } 2>/dev/null && number "$fence_epoch" ||
    { say io "the fence in $P is garbled"; return 1; }
}

# Whether this authority may act. The gate must be held.
admitted() { # STORE EPOCH
  fence || return 1
  [ "$((fence_epoch > $2))" = 0 ] || { say stale "$fence_epoch"; return 1; }
  # Two stores of one birth: only the first may act.
  if [ "$((fence_epoch == $2))" = 1 ] && [ "$fence_store" != "$1" ]; then
    say stale "$fence_epoch"
    return 1
  fi
}

raise() { # STORE EPOCH
  [ "$((fence_epoch == $2))" = 0 ] || return 0
  { printf '%s %s\n' "$1" "$2" >"$P/fence.new"; } 2>/dev/null && sync "$P/fence.new" &&
    mv -f "$P/fence.new" "$P/fence" && sync "$P" || { say io "cannot write the fence in $P"; return 1; }
}

ask_fence() { # STORE EPOCH
  name "$1" && number "$2" || { say bad; return; }
  gate && admitted "$1" "$2" && raise "$1" "$2" && say ok
}

ask_run() { # STORE EPOCH KEY SECONDS NOT_AFTER SKEW RERUN PATIENCE VARIABLES
  name "$1" && number "$2" && name "$3" && number "$4" && number "$5" && number "$8" &&
    number "$9" || { say bad; return; }
  # What the controller measured, if it did, is better than what we did at its hello.
  [ "$6" = - ] || { number "${6#-}" && skew=$6; } || { say bad; return; }
  key=$3 patience=$8
  gate && admitted "$1" "$2" || return
  look "$key"
  case $seen in
    absent) try=1 ;;
    lost)
      [ "$7" = rerun ] && [ "$tries" -lt "$TRIES_MAX" ] || { say lost; return; }
      try=$((tries + 1)) ;;
    *) exec 8>&-; await; return ;;
  esac
  clock
  [ "$now" -le "$(($5 + skew))" ] || { say expired; return; }
  if read -r with <"$P/current" && [ "$with" != "$key" ] && name "$with"; then
    look "$with"
    case $seen in starting | running | orphaned) say busy "$with"; return ;; esac
    step=$P/steps/$key
  fi 2>/dev/null
  raise "$1" "$2" || return
  mkdir -p "$step" 2>/dev/null || { say io "cannot make $step"; return; }
  if [ "$try" -gt 1 ]; then
    # What is known of the lost try stays, as evidence.
    cp "$step/start" "$step/start.$((try - 1))" && rm -f "$step/kill" "$step/log.tail"
    [ ! -e "$step/log" ] || mv -f "$step/log" "$step/log.$((try - 1))"
  fi 2>/dev/null
  { exec 9>"$step/lock"; } 2>/dev/null || { say io "cannot write in $step"; return; }
  # Perhaps held for an instant by someone who looks whether it is held.
  flock -n 9 || timeout 2 flock 9 || { exec 8>&- 9>&-; await; return; }
  { printf '%s\n' "$key" >"$P/current"; } 2>/dev/null || { say io "cannot write in $P"; return; }
  printf '%s' "$block" |
    setsid /bin/sh "$0" supervise "$D" "$P" "$key" "$4" "$try" "$9" "$count" "$base" \
      8>&- >/dev/null 2>&1
  exec 8>&- 9>&-
  await
}

# Answers when the step no longer runs, or when patience ends. A lock that is waited for costs
# nothing.
await() {
  tick
  until=$((up + patience * 1000))
  while :; do
    look "$key"
    tick
    case $seen in
      done | lost | absent) tell; return ;;
      orphaned)
        # Nobody else does it.
        if [ "$up" -gt "$((deadline + GRACE * 2000))" ]; then end_orphan timed-out; continue; fi ;;
    esac
    [ "$up" -lt "$until" ] || { say running; return; }
    left=$(((until - up + 999) / 1000))
    case $seen in
      orphaned) sleep 0.2 || sleep 1 ;;
      *) timeout "$left" flock -s 9 9<"$step/lock" || : ;;
    esac 2>/dev/null
  done
}

tell() {
  case $seen in
    done)
      if [ -s "$step/log.tail" ]; then
        cat "$step/log" "$step/log.tail" | tail -c 2048 >"$tmp"; send 1 "$tmp"; rm -f "$tmp"
      elif [ -s "$step/log" ]; then
        tail -c 2048 "$step/log" >"$tmp"; send 1 "$tmp"; rm -f "$tmp"
      fi 2>/dev/null
      clock
      say done "$exit" "$value" "$started" "$finished" "$now" ;;
    absent)
      why=
      { IFS= read -r why <"$step/trouble"; } 2>/dev/null
      [ -z "$why" ] || { say io "$why"; return; }
      say absent ;;
    *) say "$seen" ;;
  esac
}

ask_state() { # KEY PATIENCE
  name "$1" && number "$2" || { say bad; return; }
  key=$1 patience=$2
  if [ "$patience" -gt 0 ]; then await; return; fi
  look "$key"
  case $seen in starting | orphaned) seen=running ;; esac
  tell
}

ask_log() { # KEY
  name "$1" || { say bad; return; }
  step=$P/steps/$1
  send 1 "$step/log"
  send 2 "$step/log.tail"
  say ok
}

ask_kill() { # KEY
  name "$1" || { say bad; return; }
  key=$1 asked=
  tick
  until=$((up + GRACE * 3000))
  while :; do
    look "$key"
    case $seen in
      absent | done | lost) say ok; return ;;
      orphaned) end_orphan killed; say ok; return ;;
    esac
    { [ -e "$step/kill" ] || : >"$step/kill"; } 2>/dev/null || { say io "cannot write in $step"; return; }
    tick
    if [ "$seen" = running ] && [ -z "$asked" ] && kill -TERM "-$command"; then
      asked=$up
    elif [ -n "$asked" ] && [ "$up" -gt "$((asked + GRACE * 1000))" ]; then
      kill -KILL "-$command"
    fi 2>/dev/null
    [ "$up" -lt "$until" ] || { say io "step $key cannot be killed"; return; }
    sleep 0.1 || sleep 1
  done 2>/dev/null
}

# Ends what is left of a process group.
end_group() { # LEADER
  kill -TERM "-$1" || return 0
  tick
  until_gone=$((up + GRACE * 1000))
  while kill -0 "-$1"; do
    tick
    [ "$up" -lt "$until_gone" ] || { kill -KILL "-$1"; return 0; }
    sleep 0.1 || sleep 1
  done
} 2>/dev/null

# Does what the runner would have done.
end_orphan() { # HOW
  end_group "$command"
  clock
  # Two may get here; they write the same.
  { printf 'exit 1 %s 0 %s %s end\n' "$1" "$began" "$now" >"$step/exit.$me"; } 2>/dev/null
  mv -f "$step/exit.$me" "$step/exit" && sync "$step/exit" "$step"
}

# Reads COUNT values from stdin, raw, into `block`.
read_block() {
  block= rows=0
  while [ "$rows" -lt "$count" ]; do
    IFS= read -r row || return 1
    block=$block$row$nl rows=$((rows + 1))
    case $row in
      =*) ;;
      +*)
        more=${row#+}
        number "$more" || return 1
        while [ "$more" -gt 0 ]; do
          IFS= read -r row || return 1
          block=$block$row$nl more=$((more - 1))
        done ;;
      *) return 1 ;;
    esac
  done
}

# Reads one value from stdin.
read_value() {
  IFS= read -r value || return 1
  case $value in
    =*) value=${value#=} ;;
    *)
      more=${value#+} value=
      while [ "$more" -gt 0 ]; do
        IFS= read -r row || return 1
        more=$((more - 1)) value=$value$row
        [ "$more" -eq 0 ] || value=$value$nl
      done ;;
  esac
}

# Becomes a command in a session of its own, with some variables.
become() { # SIGNAL SECONDS VARIABLES [NAME=VALUE...] PROGRAM [ARGUMENT...]
  signal=$1 seconds=$2 variables=$3
  shift 3
  while [ "$variables" -gt 0 ]; do
    export "$1"
    shift
    variables=$((variables - 1))
  done
  cd "$HOME" 2>/dev/null || cd /
  umask 022
  unset OLDPWD
  exec "$SETSID" "$TIMEOUT" -s "$signal" -k "$GRACE" "$seconds" "$@"
}

# Asks a question: how a command ends, and the beginning of what it prints. It leaves nothing
# behind.
ask_ask() { # SECONDS VARIABLES
  number "$1" && number "$2" || { say bad; return; }
  seconds=$1 variables=$2
  mkfifo "$tmp.1" "$tmp.2" || { say io "cannot write in $D"; return; }
  tick
  asked=$up
  set --
  # Not in a pipe: the values are for us.
  while [ "$count" -gt 0 ]; do
    read_value
    set -- "$@" "$value"
    count=$((count - 1))
  done <<END
$block
END
  { dd bs=1 count="$ASK_MAX" >"$tmp.out"; exec cat >/dev/null; } <"$tmp.1" & out=$!
  { dd bs=1 count="$ASK_MAX" >"$tmp.err"; exec cat >/dev/null; } <"$tmp.2" & err=$!
  (become KILL "$seconds" "$variables" "$@") </dev/null >"$tmp.1" 2>"$tmp.2" & command=$!
  wait "$command"
  code=$?
  tick
  took=$((up - asked))
  kill -KILL "-$command"
  # Who left the group may hold the pipes for ever.
  { sleep 0.2 || sleep 1; kill "$out" "$err"; } & clock=$!
  wait "$out"
  wait "$err"
  kill "$clock"
  send 1 "$tmp.out"
  send 2 "$tmp.err"
  rm -f "$tmp.1" "$tmp.2" "$tmp.out" "$tmp.err"
  if [ "$((took + 30))" -ge "$((seconds * 1000))" ] && { [ "$code" = 124 ] || [ "$code" -gt 128 ]; }; then
    say late
  else
    say ended "$code" "$took"
  fi
} 2>/dev/null

# Watches over one step. Fd 9 is its lock, stdin its values.
supervise() { # D P KEY SECONDS TRY VARIABLES COUNT BASE
  D=$1 P=$2 key=$3 seconds=$4 try=$5 variables=$6 count=$7 base=$8
  step=$P/steps/$key
  cd "$step" || exit 1
  set --
  while [ "$count" -gt 0 ]; do
    read_value || exit 1
    set -- "$@" "$value"
    count=$((count - 1))
  done
  [ ! -e trouble ] && [ ! -e logged ] || rm -f trouble logged
  watch "$@" 2>&1 </dev/null | keep 9>&- &
}

# Keeps the beginning and the end of what the command prints. What it left running may print on:
# a writer without a reader would die.
keep() {
  # Written as it comes: somebody may look on.
  dd bs=128 count=4096 >log
  tail -c "$LOG_MAX" >log.tail
  : >logged
} 2>/dev/null

watch() { # [NAME=VALUE...] PROGRAM [ARGUMENT...]
  myself
  runner=$me runner_born=$born
  clock
  began=$now began_up=$up
  # Room for the end, while a full disk can still be refused.
  { printf '%-200s\n' '' >exit.new; } 2>/dev/null || { give_up "the disk is full"; return; }
  (
    exec 9>&-
    myself
    if { printf 'start 1 %s %s %s %s %s %s %s %s end\n' "$boot" "$runner" "$runner_born" \
      "$me" "$born" "$began" "$((began_up + seconds * 1000))" "$try" >start &&
      sync start exit.new . ..; } 2>/dev/null
    then
      become TERM "$seconds" "$variables" "$@"
    fi
    [ "$try" -gt 1 ] || rm -f start
    exit 125
  )
  code=$?
  clock
  { read -r word format rest rest rest command rest <start; } 2>/dev/null ||
    { give_up "the start marker cannot be written"; return; }
  exec >/dev/null 2>&1
  if [ -e kill ]; then
    ending='killed 0'
    end_group "$command"
  elif [ "$((up - began_up + 30))" -ge "$((seconds * 1000))" ] && { [ "$code" = 124 ] || [ "$code" -gt 128 ]; }; then
    ending='timed-out 0'
    end_group "$command"
  elif [ "$code" -gt 128 ] && [ "$code" -le 192 ]; then
    ending="signal $((code - 128))"
  else
    ending="code $code"
  fi
  # What is in the pipe, not what a server in the background will say.
  waited=0
  while [ ! -e logged ] && [ "$waited" -lt 20 ]; do
    sleep 0.01
    waited=$((waited + 1))
  done
  clock
  tries=0
  until printf 'exit 1 %s %s %s end\n' "$ending" "$began" "$now" 1<>exit.new && mv -f exit.new exit; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || return
    sleep 1
  done
  exec 9>&-
  # Nobody waits for this: a power cut before it is a power cut before the end.
  sync exit .
  prune
}

give_up() { # WHY
  printf '%s\n' "$1" >trouble
  rm -f exit.new
} 2>/dev/null

# Forgets the oldest steps; never one that runs.
prune() {
  set +f
  set -- "$P"/steps/*
  set -f
  [ $# -gt "$((KEPT + 20))" ] || return 0
  ls -t "$P/steps" | tail -n "+$((KEPT + 1))" | while read -r key; do
    name "$key" || continue
    look "$key"
    case $seen in
      done | lost | absent) mv "$step" "$P/steps/.gone-$key" && rm -rf "$P/steps/.gone-$key" ;;
    esac
  done
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
  exec env -i HOME="$HOME" PATH="$PATH" LANG=C.UTF-8 /bin/sh "$target" serving "$1" installed
} 2>/dev/null

refuse() { # WHY
  printf 'towpath %s trouble %s\n' "$nonce" "$1"
  exit 1
}

# Keeps a few versions, and a name that does not change, for authorized_keys.
tidy() {
  ln -sfn "${0##*/}" "$D/runner.new" && mv -f "$D/runner.new" "$D/runner"
  set +f
  ls -t "$D"/runner-* | tail -n +4 | while IFS= read -r old; do rm -f "$old"; done
  set -f
} 2>/dev/null

serving() { # SUM [installed]
  D=${0%/*} sum=$1
  read -r word format nonce wanted theirs rest || exit 0
  [ "$word $format" = "towpath 1" ] && name "$nonce" && number "$theirs" || exit 64
  if [ "$wanted" != "$sum" ]; then
    printf 'towpath %s need\n' "$nonce"
    install "$wanted"
  fi
  for tool in flock setsid timeout base64 sha256sum mkfifo dd tail sync; do
    command -v "$tool" >/dev/null || refuse "there is no $tool on the node; install coreutils and util-linux"
  done
  wall=$(date +%s%3N)
  case $wall in *[!0-9]*) wall=$(date +%s)000 ;; esac
  tick
  base=$((wall - up)) skew=$((wall - theirs))
  read -r boot </proc/sys/kernel/random/boot_id || refuse "/proc is not there"
  [ $# -lt 2 ] || tidy
  printf 'towpath %s ready %s\n' "$nonce" "$wall"
  served=0
  # The answer to a hello is for the right login only; a request is for the right place only.
  while read -r id verb place count words; do
    number "$id" && name "$place" && number "$count" && read_block || break
    P=$D/places/$place tmp=$D/.tmp.$$.$id me=$$.$id
    case $verb in
      run | state | fence | log | kill | ask) "ask_$verb" $words </dev/null & ;;
      *) say bad ;;
    esac
    served=$((served + 1))
    # Who has ended is waited for now and then.
    [ "$((served % 32))" != 0 ] || (:)
  done
  # Nobody listens any more. Steps have sessions of their own.
  trap '' TERM
  set +f
  rm -f "$D"/.tmp.$$.*
  kill -TERM "-$$"
  exit 0
} 2>/dev/null

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
case ${1-} in
  serving) shift; SETSID=$(command -v setsid) TIMEOUT=$(command -v timeout); serving "$@" ;;
  supervise)
    shift
    SETSID=$(command -v setsid) TIMEOUT=$(command -v timeout)
    read -r boot </proc/sys/kernel/random/boot_id
    supervise "$@" ;;
  # As a forced command: whatever the other side asked to run, it gets this.
  serve)
    sum=$(sha256sum <"$0")
    exec env -i HOME="$HOME" PATH="$PATH" LANG=C.UTF-8 /bin/sh "$0" serving "${sum%% *}" ;;
  *) echo "towpath's runner is for towpath itself" >&2; exit 64 ;;
esac
