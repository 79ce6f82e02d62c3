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
  : >"$tmp.n1" >"$tmp.n2" >"$tmp.e1" >"$tmp.e2" >"$tmp.err"
  # Each tells when all is there that is wanted, and when it lets go of its pipe.
  {
    exec 3>&-
    dd bs=1 count="$ASK_MAX" >"$tmp.out" 2>"$tmp.n1"
    counted "$tmp.n1" && [ "$records" -lt "$ASK_MAX" ] || cat >/dev/null
    echo . >"$tmp.e1"
  } <"$tmp.1" & out=$!
  # Complaints are rare. A first line without end must not eat the node's memory.
  {
    exec 3>&-
    ulimit -v 262144
    if IFS= read -r row || [ -n "$row" ]; then
      { printf '%.1024s\n' "$row"; dd bs=1 count="$((ASK_MAX - 1))"; } >"$tmp.err" 2>/dev/null
      echo . >"$tmp.n2"
      cat >/dev/null
    else
      echo . >"$tmp.n2"
    fi
    echo . >"$tmp.e2"
  } <"$tmp.2" & err=$!
  (exec 3>&-; become KILL "$seconds" "$variables" "$@") </dev/null >"$tmp.1" 2>"$tmp.2" & command=$!
  wait "$command"
  code=$?
  tick
  took=$((up - asked)) looks=0
  kill -KILL "-$command"
  # What dd tells comes in pieces.
  until [ -s "$tmp.n2" ] && counted "$tmp.n1" || [ "$looks" -gt "$LOOKS" ]; do pass; done
  if [ "$looks" -gt "$LOOKS" ]; then
    # Who left the group may hold the pipes for ever; who reads them may just not have had his turn.
    { sleep 2; kill "$out" "$err"; } & clock=$!
    wait "$out" "$err"
    kill "$clock"
  fi
  counted "$tmp.n1"
  send 1 "$tmp.out" "$bytes"
  send 2 "$tmp.err" -
  if [ "$((took + 30))" -ge "$((seconds * 1000))" ] && { [ "$code" = 124 ] || [ "$code" -gt 128 ]; }; then
    say late
  else
    say ended "$code" "$took"
  fi
  # Pipes that somebody may still hold are not used again: he would get what is the next one's.
  wait "$out" "$err"
  [ ! -s "$tmp.e1" ] || [ ! -s "$tmp.e2" ] || : >"$tmp.busy"
} 2>/dev/null

