#!/bin/sh
# Towpath's runner on a node: begins steps once, watches over them, and answers for them.
# Towpath installs and updates it by itself. It needs coreutils, flock and setsid.
#
# One session serves one login. It reads requests on stdin and answers each when it can, so
# answers come in any order. A request is a line `ID VERB PLACE COUNT WORD...` and COUNT values,
# each a line `=TEXT`, or a line `+LINES` and so many lines of text. An answer is any number of
# pieces and one line `NONCE ID . WORD...`, each short enough to be one write. A piece is a line
# `NONCE ID STREAM BASE64`, or `NONCE ID =STREAM TEXT` for a line of plain text, `-STREAM` for one
# whose newline is not there. What commands print never gets there in another way.
#
# A session is no child of the login: it has a session of its own, and what it began outlives it.
# Every process that a question or a step costs is paid for by all nodes: shells do what shells can.
#
# A step is some files `places/PLACE/steps/KEY@...`:
#   start   durable before the command runs: boot, runner, command, times, tries
#   exit    how it ended; blank before. From there on it is done
#   log     the beginning of what it printed, `tail` the end; `logged` when all of it is there
#   kill    somebody asked that it be killed
# Times are by the clock of the controller, which tells it when it says hello.
set -uf
umask 077; LC_ALL=C

LOG_MAX=524288   # bytes of the end, and as many of the beginning, or 4096 writes of it
WRITES_MAX=4096
ASK_MAX=4097     # one more than an answer may have
PLAIN_MAX=2048   # bytes that are sent without base64
GRACE=5          # seconds between TERM and KILL
KEPT=200         # steps remembered in a place
TRIES_MAX=2      # begun under one key; a second loss is for a person to look at
nl='
'

# Fd 3 is where answers go. Fd 8 is the gate.
say() { printf '%s %s . %s\n' "$nonce" "$id" "$*" >&3; }

# A file as pieces. Plain lines need no process; BYTES, where known, tell whether the shell has
# seen all of them: it does not see NUL.
send() { # STREAM FILE BYTES
  [ -s "$2" ] || return 0
  number "$3" && [ "$3" -le "$PLAIN_MAX" ] && plain "$@" && return
  for piece in $(base64 -w 900 <"$2"); do
    printf '%s %s %s %s\n' "$nonce" "$id" "$1" "$piece"
  done >&3
}

plain() { # STREAM FILE BYTES
  text= seen_bytes=0
  while IFS= read -r row; do
    case $row in *[!\ -~]*) return 1 ;; esac
    text="$text$nonce $id =$1 $row$nl" seen_bytes=$((seen_bytes + ${#row} + 1))
  done <"$2"
  case $row in *[!\ -~]*) return 1 ;; esac
  [ -z "$row" ] || text="$text$nonce $id -$1 $row$nl" seen_bytes=$((seen_bytes + ${#row}))
  [ "$seen_bytes" = "$3" ] && printf %s "$text" >&3
} 2>/dev/null

# What dd said at its end: records, and bytes.
counted() { # FILE
  records= bytes=
  { read -r full rest; read -r rest; read -r bytes rest; } <"$1" || return 1
  part=${full#*+} full=${full%+*}
  number "$full" && number "$part" && number "$bytes" || { bytes=; return 1; }
  records=$((full + part))
} 2>/dev/null

number() { case $1 in '' | *[!0-9]* | ????????????????????*) return 1 ;; esac; }
name() { case $1 in '' | .* | *[!A-Za-z0-9._-]*) return 1 ;; esac; }

# Milliseconds since boot, and of the controller's clock.
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
  { read -r word format exit value started finished whole <"$step@exit"; } 2>/dev/null &&
    [ "$whole" = end ] && seen=done
}

# How a step stands: absent, running, orphaned (its runner is gone, its command lives), done or
# lost. Who does not hold the gate may see one absent or lost that is about to begin.
look() { # KEY
  step=$P/steps/$1
  ended && return
  tries=1 command=0 command_born=0 began=0 deadline=0 whole=
  if { read -r word format boot_then runner runner_born command command_born began deadline tries \
    whole <"$step@start"; } 2>/dev/null && [ "$whole" = end ]; then
    if [ "$boot_then" = "$boot" ]; then
      if alive "$runner" "$runner_born"; then seen=running; ended; return; fi
      if left; then seen=orphaned; ended; return; fi
    fi
    seen=lost
  elif [ -s "$step@start" ]; then
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

# An empty one was never answered for: a power cut came before.
fence() {
  fence_store= fence_epoch=0
  [ -s "$P/fence" ] || return 0
  { read -r fence_store fence_epoch whole <"$P/fence"; } 2>/dev/null && number "$fence_epoch" &&
    [ "$whole" = end ] || { say io "the fence in $P is garbled"; return 1; }
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

# Written over the old one, in one piece smaller than a sector; `fenced` is what is to be made
# durable before anything follows from it.
raise() { # STORE EPOCH
  fenced=
  [ "$((fence_epoch == $2))" = 0 ] || return 0
  fenced=$P/fence
  { printf '%-200s\n' "$1 $2 end" 1<>"$P/fence"; } 2>/dev/null ||
    { say io "cannot write the fence in $P"; return 1; }
}

ask_fence() { # STORE EPOCH
  name "$1" && number "$2" || { say bad; return; }
  gate && admitted "$1" "$2" && raise "$1" "$2" || return
  [ -z "$fenced" ] || sync "$fenced" "$P" || { say io "cannot write the fence in $P"; return; }
  say ok
} 2>/dev/null

# Begins a step, watches over it, and answers when it ended. Its stdout is a pipe to `keep`.
ask_run() { # STORE EPOCH KEY SECONDS NOT_AFTER SKEW RERUN VARIABLES
  name "$1" && number "$2" && name "$3" && number "$4" && number "$5" && number "$8" ||
    { say bad; return; }
  # By how much our clock runs ahead of the controller's, if it knows.
  [ "$6" = - ] || { number "${6#-}" && skew=$6; } || { say bad; return; }
  key=$3 seconds=$4 variables=$8
  gate && admitted "$1" "$2" || return
  look "$key"
  case $seen in
    absent) try=1 ;;
    lost)
      [ "$7" = rerun ] && [ "$tries" -lt "$TRIES_MAX" ] || { say lost; return; }
      try=$((tries + 1)) ;;
    done) exec 8>&-; tell; return ;;
    *) say running; return ;;
  esac
  clock
  [ "$now" -le "$(($5 + skew))" ] || { say expired; return; }
  if read -r with <"$P/current" && [ "$with" != "$key" ] && name "$with"; then
    look "$with"
    case $seen in running | orphaned) say busy "$with"; return ;; esac
    step=$P/steps/$key
  fi 2>/dev/null
  raise "$1" "$2" || return
  if [ "$try" -gt 1 ]; then
    # What is known of the lost try stays, as evidence.
    cp "$step@start" "$step@start.$((try - 1))" && rm -f "$step@kill" "$step@tail" "$step@logged"
    [ ! -e "$step@log" ] || mv -f "$step@log" "$step@log.$((try - 1))"
  fi 2>/dev/null
  # Room for the end, while a full disk can still be refused.
  { printf '%-200s\n' '' >"$step@exit" && printf '%s\n' "$key" >"$P/current"; } 2>/dev/null ||
    { say io "cannot write in $P"; return; }
  eval "set -- $values"
  watch "$@"
}

watch() { # [NAME=VALUE...] PROGRAM [ARGUMENT...]
  myself
  runner=$me runner_born=$born
  clock
  began=$now began_up=$up
  # Where `keep` is to keep what is printed.
  printf '%s\n' "$step"
  (
    myself
    if { printf 'start 1 %s %s %s %s %s %s %s %s end\n' "$boot" "$runner" "$runner_born" \
      "$me" "$born" "$began" "$((began_up + seconds * 1000))" "$try" >"$step@start" &&
      sync "$step@start" "$step@exit" $fenced "$P/steps" "$P"; } 2>/dev/null
    then
      exec 3>&- 8>&-
      become TERM "$seconds" "$variables" "$@"
    fi
    [ "$try" -gt 1 ] || rm -f "$step@start"
    exit 125
  ) </dev/null 2>&1 &
  waited=$!
  # The pipe is the command's now, and so is the gate until the start is durable.
  exec 8>&- >/dev/null
  wait "$waited"
  code=$?
  clock
  command=
  { read -r word format rest rest rest command rest <"$step@start"; } 2>/dev/null
  [ "$command" = "$waited" ] || { say io "the start of $key cannot be written"; return; }
  if [ -e "$step@kill" ]; then
    exit=killed value=0
    end_group "$command"
  elif [ "$((up - began_up + 30))" -ge "$((seconds * 1000))" ] && { [ "$code" = 124 ] || [ "$code" -gt 128 ]; }; then
    exit=timed-out value=0
    end_group "$command"
  elif [ "$code" -gt 128 ] && [ "$code" -le 192 ]; then
    exit=signal value=$((code - 128))
  else
    exit=code value=$code
  fi
  clock
  tries=0
  # Not made durable: a power cut before that is one before the end.
  until printf 'exit 1 %s %s %s %s end\n' "$exit" "$value" "$began" "$now" 1<>"$step@exit"; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || return
    sleep 1
  done
  started=$began finished=$now
  tell
  prune
} 2>/dev/null

# Keeps the beginning and the end of what the command prints. What it left running may print on:
# a writer without a reader would die.
keep() {
  IFS= read -r step || return 0
  # Written as it comes: somebody may look on.
  dd bs=128 count="$WRITES_MAX" >"$step@log" 2>"$step@logged"
  counted "$step@logged" && [ "$records" -lt "$WRITES_MAX" ] && return
  tail -c "$LOG_MAX" >"$step@tail"
  : >"$step@tailed"
} 2>/dev/null

# Waits for what is in the pipe, not for what a server in the background will say.
settle() {
  looks=0 bytes=
  while [ "$looks" -lt 220 ]; do
    if [ -s "$step@logged" ] && counted "$step@logged"; then
      [ "$records" = "$WRITES_MAX" ] || return 0
      [ ! -e "$step@tailed" ] || return 0
    fi
    looks=$((looks + 1))
    [ "$looks" -lt 200 ] || sleep 0.01 || return 0
  done
} 2>/dev/null

# Answers for a step that is looked at, or has just ended.
tell() {
  settle
  if [ -s "$step@tail" ]; then
    cat "$step@log" "$step@tail" | tail -c 2048 >"$tmp"; send 1 "$tmp" -; rm -f "$tmp"
  elif [ -n "$bytes" ] && [ "$bytes" -le 2048 ]; then
    send 1 "$step@log" "$bytes"
  elif [ -s "$step@log" ]; then
    tail -c 2048 "$step@log" >"$tmp"; send 1 "$tmp" -; rm -f "$tmp"
  fi 2>/dev/null
  clock
  say done "$exit" "$value" "$started" "$finished" "$now"
}

ask_state() { # KEY
  name "$1" || { say bad; return; }
  key=$1
  look "$key"
  case $seen in
    absent | lost)
      # Perhaps about to begin: whoever begins it holds the gate.
      if [ -e "$P/gate" ]; then
        exec 8<"$P/gate"
        if flock -n -s 8; then look "$key"; else seen=running; fi
        exec 8>&-
      fi ;;
    orphaned)
      # Nobody else does it.
      tick
      [ "$up" -le "$((deadline + GRACE * 2000))" ] || { end_orphan timed-out; look "$key"; } ;;
  esac 2>/dev/null
  case $seen in
    done) tell ;;
    orphaned) say running ;;
    *) say "$seen" ;;
  esac
}

ask_log() { # KEY
  name "$1" || { say bad; return; }
  step=$P/steps/$1
  ! ended || settle
  send 1 "$step@log" -
  send 2 "$step@tail" -
  say ok
}

ask_kill() { # KEY
  name "$1" || { say bad; return; }
  key=$1 asked= gated=
  tick
  until=$((up + GRACE * 3000))
  while :; do
    look "$key"
    case $seen in
      done) say ok; return ;;
      absent | lost)
        # Nothing may begin between this look and our word.
        [ -z "$gated" ] && [ -d "$P" ] || { say ok; return; }
        gate || return
        gated=yes
        continue ;;
      orphaned) end_orphan killed; say ok; return ;;
    esac
    exec 8>&-
    { [ -e "$step@kill" ] || : >"$step@kill"; } 2>/dev/null || { say io "cannot write in $P"; return; }
    tick
    if [ -z "$asked" ] && kill -TERM "-$command"; then
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
  printf 'exit 1 %s 0 %s %s end\n' "$1" "$began" "$now" 1<>"$step@exit"
} 2>/dev/null

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

# Finds two pipes for a question. They are made once, and used again when a question is over.
slot() {
  at=0
  while tmp=$D/.tmp.$$.$at && [ -s "$tmp.busy" ]; do at=$((at + 1)); done
  [ -p "$tmp.2" ] || mkfifo "$tmp.1" "$tmp.2"
  echo "$id" >"$tmp.busy"
} 2>/dev/null

# Asks a question: how a command ends, and the beginning of what it prints. It leaves nothing
# behind.
ask_ask() { # SECONDS VARIABLES
  number "$1" && number "$2" || { say bad; return; }
  [ -p "$tmp.2" ] && [ -s "$tmp.busy" ] || { say io "cannot write in $D"; return; }
  seconds=$1 variables=$2
  tick
  asked=$up
  eval "set -- $values"
  : >"$tmp.n1" >"$tmp.n2" >"$tmp.err"
  {
    exec 3>&-
    dd bs=1 count="$ASK_MAX" >"$tmp.out" 2>"$tmp.n1"
    counted "$tmp.n1" && [ "$records" -lt "$ASK_MAX" ] || exec cat >/dev/null
  } <"$tmp.1" & out=$!
  # Complaints are rare. A first line without end must not eat the node's memory.
  {
    exec 3>&-
    ulimit -v 262144
    if IFS= read -r row || [ -n "$row" ]; then
      { printf '%.1024s\n' "$row"; dd bs=1 count="$((ASK_MAX - 1))"; } >"$tmp.err" 2>/dev/null
      echo . >"$tmp.n2"
      exec cat >/dev/null
    fi
    echo . >"$tmp.n2"
  } <"$tmp.2" & err=$!
  (exec 3>&-; become KILL "$seconds" "$variables" "$@") </dev/null >"$tmp.1" 2>"$tmp.2" & command=$!
  wait "$command"
  code=$?
  tick
  took=$((up - asked)) looks=0
  kill -KILL "-$command"
  until [ -s "$tmp.n1" ] && [ -s "$tmp.n2" ] || [ "$looks" -gt 200 ]; do looks=$((looks + 1)); done
  if [ "$looks" -le 200 ]; then
    counted "$tmp.n1"
  else
    # Who left the group may hold the pipes for ever.
    { sleep 0.2 || sleep 1; kill "$out" "$err"; } & clock=$!
    wait "$out" "$err"
    kill "$clock"
    bytes=
    [ ! -s "$tmp.n1" ] || counted "$tmp.n1"
  fi
  send 1 "$tmp.out" "$bytes"
  send 2 "$tmp.err" -
  if [ "$((took + 30))" -ge "$((seconds * 1000))" ] && { [ "$code" = 124 ] || [ "$code" -gt 128 ]; }; then
    say late
  else
    say ended "$code" "$took"
  fi
  # Pipes that somebody may still hold are not used again.
  [ "$looks" -gt 200 ] || : >"$tmp.busy"
} 2>/dev/null

# Forgets the oldest steps; never one that runs. Their end goes last: what has one is done.
prune() {
  set +f
  set -- "$P"/steps/*@start
  set -f
  [ $# -gt "$((KEPT + 20))" ] || return 0
  ls -t "$P/steps" | grep '@start$' | tail -n "+$((KEPT + 1))" | while read -r key; do
    key=${key%@start}
    name "$key" || continue
    look "$key"
    case $seen in
      done | lost | absent)
        set +f
        rm -f "$step"@start* "$step"@[!e]* "$step@exit"
        set -f ;;
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
  ls -t "$D"/runner-* | tail -n +4 | while IFS= read -r old; do rm -f "$old"; done
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
  printf 'towpath %s ready %s\n' "$nonce" "$theirs"
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
