# Questions: how a command ends and what it prints first, without a trace on the node.

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
  until [ -s "$tmp.n1" ] && [ -s "$tmp.n2" ] || [ "$looks" -gt "$LOOKS" ]; do pass; done
  if [ "$looks" -le "$LOOKS" ]; then
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
  [ "$looks" -gt "$LOOKS" ] || : >"$tmp.busy"
} 2>/dev/null

