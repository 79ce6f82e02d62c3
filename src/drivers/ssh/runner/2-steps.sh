# Steps: begun once, watched over, asked about, killed, forgotten.

# Begins a step, watches over it, and answers when it ended; the gate is open before it answers. Its stdout is a pipe to `keep`.
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
      [ "$7" = rerun ] && [ "$tries" -lt "$TRIES_MAX" ] || { exec 8>&-; say lost; return; }
      try=$((tries + 1)) ;;
    done) exec 8>&-; tell; return ;;
    *) exec 8>&-; say running; return ;;
  esac
  clock
  [ "$now" -le "$(($5 + skew))" ] || { exec 8>&-; say expired; return; }
  if read -r with <"$P/current" && [ "$with" != "$key" ] && name "$with"; then
    look "$with"
    case $seen in running | orphaned) exec 8>&-; say busy "$with"; return ;; esac
    step=$P/steps/$key
  fi 2>/dev/null
  raise "$1" "$2" || return
  if [ "$try" -gt 1 ]; then
    # What is known of the lost try stays, as evidence.
    cp "$step@start" "$step@start.$((try - 1))" && rm -f "$step@kill" "$step@tail" "$step@tailed" "$step@logged"
    set +f
    rm -f "$step"@from-*
    set -f
    [ ! -e "$step@log" ] || mv -f "$step@log" "$step@log.$((try - 1))"
  fi 2>/dev/null
  # Room for the end, while a full disk can still be refused.
  { printf '%-200s\n' '' >"$step@exit" && printf '%s\n' "$key" >"$P/current"; } 2>/dev/null ||
    { cannot "write in $P"; return; }
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
  # What is beyond that goes into pieces, named by where they begin, of which the last two are kept.
  begins=${bytes:-0} first=$begins older= bytes=
  while :; do
    piece=$step@from-$begins
    dd bs="$PIECE" count="$WRITES_MAX" >"$piece" 2>"$step@piece"
    counted "$step@piece" || { cat >/dev/null; break; }
    begins=$((begins + bytes))
    [ "$records" -eq "$WRITES_MAX" ] || break
    [ -z "$older" ] || { rm -f "$older"; first=${piece##*@from-}; }
    older=$piece
  done
  cat ${older:+"$older"} "$piece" | tail -c "$LOG_MAX" >"$step@tail"
  [ "$((begins - first))" -le "$LOG_MAX" ] || first=$((begins - LOG_MAX))
  echo "$first" >"$step@piece" && mv -f "$step@piece" "$step@tailed"
  rm -f "$piece" ${older:+"$older"}
} 2>/dev/null

# The last of the pieces as one file, as far as they are written; `from` is where it begins.
pieces() { # FILE
  last=-1 before=-1 from=
  set +f
  for piece in "$step"@from-*; do
    at=${piece##*@from-}
    number "$at" || continue
    if [ "$at" -gt "$last" ]; then before=$last last=$at
    elif [ "$at" -gt "$before" ]; then before=$at; fi
  done
  set -f
  [ "$last" -ge 0 ] || return
  length=$(($(wc -c <"$step@from-$last"))) || return
  if [ "$length" -ge "$LOG_MAX" ] || [ "$before" -lt 0 ]; then
    skip=$((length > LOG_MAX ? length - LOG_MAX : 0))
    from=$((last + skip))
    tail -c "+$((skip + 1))" "$step@from-$last" | head -c "$LOG_MAX" >"$1"
  else
    rest=$((LOG_MAX - length < last - before ? LOG_MAX - length : last - before))
    from=$((last - rest))
    { tail -c "$rest" "$step@from-$before" && head -c "$length" "$step@from-$last"; } >"$1" || from=
  fi
} 2>/dev/null

# Waits for what is in the pipe, not for what a server in the background will say.
settle() {
  looks=0 bytes=
  while [ "$looks" -le "$((LOOKS + 20))" ]; do
    if [ -s "$step@logged" ] && counted "$step@logged"; then
      [ "$records" = "$WRITES_MAX" ] || return 0
      [ ! -e "$step@tailed" ] || return 0
    fi
    pass
    [ "$looks" -le "$LOOKS" ] || sleep 0.01 || return 0
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
  # The end is looked at first: where there is one, the beginning is whole.
  from= end=$tmp
  if [ -e "$step@tailed" ]; then
    read -r from <"$step@tailed"
    end=$step@tail
  else
    pieces "$tmp"
  fi
  send 1 "$step@log" -
  [ -z "$from" ] || send 2 "$end" -
  rm -f "$tmp"
  say ok $from
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

