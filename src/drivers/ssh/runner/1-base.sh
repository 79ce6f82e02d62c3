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
#   log     the beginning of what it printed, `tail` the end; `logged` when all of it is there, `tailed` with
#           where the end begins. While it runs, `from-BYTES` are the last pieces of what is beyond the log
#   kill    somebody asked that it be killed
# Times are by the clock of the controller, which tells it when it says hello.
set -uf

# What the login brought along is not for steps; and none of its names may be one of ours.
forget() {
  IFS='
'
  for row in $(export -p); do
    case $row in "export "[A-Za-z_]*) ;; *) continue ;; esac
    row=${row#export } row=${row%%=*}
    case $row in HOME | PATH | *[!A-Za-z0-9_]* | *SHELLOPTS | BASH*) ;; *) unset "$row" ;; esac
  done
  unset IFS row
  export HOME PATH
}
forget
umask 077; LC_ALL=C

LOG_MAX=524288   # bytes of the end, and as many of the beginning, or 4096 writes of it
WRITES_MAX=4096
PIECE=2048       # bytes of a write, so many of which make a piece of what is beyond the beginning
ASK_MAX=4097     # one more than an answer may have
PLAIN_MAX=2048   # bytes that are sent without base64
GRACE=5          # seconds between TERM and KILL
KEPT=200         # steps remembered in a place
LOOKS=50         # at what others are about to write, before anything is paid to wait
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

# What dd said at its end: records, and bytes. That it read what there was is no news.
counted() { # FILE
  records= bytes=
  {
    while read -r full rest; do
      case $rest in 'warning: partial read'*) ;; *) break ;; esac
    done
    read -r rest; read -r bytes rest
  } <"$1" || { bytes=; return 1; }
  part=${full#*+} full=${full%+*}
  number "$full" && number "$part" && number "$bytes" || { bytes=; return 1; }
  records=$((full + part))
} 2>/dev/null

# One look more at what is about to be there: a few at once, then with a child between two looks, which
# costs less than a program and lets others run, for whom we wait.
pass() { looks=$((looks + 1)); [ "$((looks < 20 || looks > LOOKS))" = 1 ] || (:); }

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

# What cannot be done, with the one cause that can be seen behind it.
cannot() { # WHAT
  case $(df -P "$D" 2>/dev/null) in *" 100% "*) say io "cannot $1: the disk is full" ;; *) say io "cannot $1" ;; esac
}

make_place() { [ -d "$P/steps" ] || { mkdir -p "$P/steps" && sync "$P/steps" "$P" "$D/places" "$D"; }; }

# Holds back all others who decide here, until fd 8 is closed.
gate() {
  make_place 2>/dev/null || { cannot "make $P"; return 1; }
  { exec 8>"$P/gate"; } 2>/dev/null || { cannot "write in $P"; return 1; }
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
    { cannot "write the fence in $P"; return 1; }
}

ask_fence() { # STORE EPOCH
  name "$1" && number "$2" || { say bad; return; }
  gate && admitted "$1" "$2" && raise "$1" "$2" || return
  [ -z "$fenced" ] || sync "$fenced" "$P" || { say io "cannot write the fence in $P"; return; }
  say ok
} 2>/dev/null

