//! The runner that Towpath puts on nodes, and the command that starts it there, or first takes
//! it in. The command is one string that any login shell hands on: one line, no quote inside.

use std::fmt::Write as _;
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

/// The runner: one file on the node, here in its parts.
pub(super) const RUNNER: &str = concat!(
    include_str!("runner/1-base.sh"),
    include_str!("runner/2-steps.sh"),
    include_str!("runner/3-questions.sh"),
    include_str!("runner/4-session.sh"),
);

/// Digits of the sum that name the runner's file.
const SHORT: usize = 16;

/// What a login runs: the runner where it is there and whole, else what takes it in.
///
/// Every program that it starts is paid for by all nodes at each login, so it starts none if it can:
/// the sum is taken once after each start of the node and each change of the file, which a file beside
/// it that is newer remembers; sshd has given us a session of our own, unless it is one of a terminal,
/// whose end would end us; and the runner itself forgets the environment, unless it is bash's, where
/// functions come with it.
const BOOTSTRAP: &str = concat!(
    r#"umask 077; d=${1:-$TOWPATH_DIR}; "#,
    r#"if [ -z "$d" ]; then while read -r k w u l; do [ "$k" = Uid: ] && break; done </proc/self/status; "#,
    r#"if [ "$u" = 0 ]; then d=/var/lib/towpath; else d=$HOME/.towpath; fi; fi; "#,
    r#"p=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; r=$d/runner-$3; c=$d/.checked-$3; "#,
    r#"go() { read -r w w w w g s t l </proc/self/stat; [ "$g $s $t${BASH_VERSION:+ bash}" = "$$ $$ 0" ] && exec /bin/sh "$r" serving "$@"; "#,
    r#"env -i HOME="$HOME" PATH=$p setsid /bin/sh "$r" serving "$@"; exit $?; }; "#,
    r#"{ read -r b </proc/sys/kernel/random/boot_id; } 2>/dev/null; "#,
    r#"[ "$c" -nt "$r" ] && read -r w <"$c" && [ "$w" = "$b" ] && [ -f "$r" ] && go "$2"; "#,
    r#"if [ "$({ sha256sum <"$r"; } 2>/dev/null)" = "$2  -" ]; then { echo "$b" >"$c"; } 2>/dev/null; go "$2"; fi; "#,
    r#"read -r w f n l || exit 0; no() { printf "towpath %s trouble %s\n" "$n" "$*"; exit 1; }; "#,
    r#"for c in sha256sum env mkdir chmod sync mv; do command -v "$c" >/dev/null || no "there is no $c on the node, install coreutils"; done; "#,
    r#"mkdir -p "$d" 2>/dev/null || no "cannot make $d"; printf "towpath %s need\n" "$n"; "#,
    r#"while IFS= read -r l; do [ "$l" = "towpath-runner $2" ] && break; done; t=$d/.runner.$$; "#,
    r#"{ while IFS= read -r l; do [ "$l" = "towpath-end $2" ] && break; printf "%s\n" "$l"; done >"$t"; } 2>/dev/null || no "cannot write in $d"; "#,
    r#"[ "$(sha256sum <"$t")" = "$2  -" ] || no "the runner arrived garbled in $d: is its disk full?"; "#,
    r#"{ chmod 700 "$t" && sync "$t" && mv -f "$t" "$r" && sync "$d"; } 2>/dev/null || no "cannot write in $d"; "#,
    r#"go "$2" installed"#,
);

/// The sum of the runner, in hexadecimal digits.
pub(super) fn sum() -> &'static str {
    static SUM: OnceLock<String> = OnceLock::new();
    SUM.get_or_init(|| {
        Sha256::digest(RUNNER).iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    })
}

/// The command of a login; `directory` is where the node keeps its state.
pub(super) fn command(directory: Option<&str>) -> Result<String, String> {
    let directory = directory.unwrap_or("");
    // What every shell leaves alone between single quotes.
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '\'' | '\\' | '!') || c == ' ';
    if !directory.chars().all(plain) {
        return Err("`directory` of `connect: ssh` holds a character that shells change".to_owned());
    }
    let (sum, short) = (sum(), &sum()[..SHORT]);
    Ok(format!("exec /bin/sh -c '{BOOTSTRAP}' towpath '{directory}' {sum} {short}"))
}

/// The runner as it is sent to a node that asks for it.
pub(super) fn parcel() -> String {
    let sum = sum();
    format!("towpath-runner {sum}\n{RUNNER}towpath-end {sum}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_shell_has_nothing_to_misread() {
        let command = command(Some("/srv/to path")).unwrap();
        assert_eq!(command.matches('\'').count(), 4);
        assert!(!command.contains('!') && !command.contains('\n'), "{command}");
        assert!(super::command(Some("/a'b")).is_err());
        assert!(RUNNER.ends_with('\n') && !RUNNER.contains("\ntowpath-end "));
    }

    #[test]
    fn what_cannot_be_written_names_a_full_disk_and_no_other() {
        let (_, after) = RUNNER.split_once("\ncannot() {").unwrap();
        let (body, _) = after.split_once("\n}\n").unwrap();
        let said = |full: &str| {
            let df = "Filesystem 1024-blocks Used Available Capacity Mounted\n/dev/sda1 100 9";
            let script = format!(
                "say() {{ echo \"$@\"; }}; df() {{ [ \"$*\" = '-P /d' ] && echo '{df} 1 {full} /'; }}; D=/d\n\
                 cannot() {{{body}\n}}\ncannot 'write in /d'"
            );
            let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            String::from_utf8(said.stdout).unwrap()
        };
        assert_eq!(said("100%"), "io cannot write in /d: the disk is full\n");
        assert_eq!(said("99%"), "io cannot write in /d\n");
    }

    /// Begun as sshd does, and by a shell that has a session with others.
    #[test]
    fn a_runner_has_a_session_and_an_environment_of_its_own() {
        use std::io::Write as _;
        // Not by getsid: in a namespace of processes, the session may be one from outside, 0.
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let ours = stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap();
        for leads in [true, false] {
            let home = tempfile::tempdir().unwrap();
            let mut login = std::process::Command::new(if leads { "setsid" } else { "env" });
            login.args(["/bin/sh", "-c", &command(None).unwrap()]);
            login.env_clear().env("HOME", home.path()).env("TOWPATH_DIR", home.path().join("kept"));
            login
                .env("PATH", "/usr/bin:/bin")
                .env("KEPT", "x")
                .env("row", "y")
                .env("LANGUAGE", "a 'b'\nexport HOME=/x");
            login.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
            let mut login = login.spawn().unwrap();
            let hello = format!("towpath 1 n {} 1700000000000\n", sum());
            let ask = "1 ask staging 3 9 0\n=sh\n=-c\n=cut -d' ' -f6 /proc/self/stat; env\n";
            let said = format!("{hello}{}{hello}{ask}", parcel());
            login.stdin.take().unwrap().write_all(said.as_bytes()).unwrap();
            let heard = String::from_utf8(login.wait_with_output().unwrap().stdout).unwrap();
            let lines: Vec<&str> =
                heard.lines().filter_map(|it| it.strip_prefix("n 1 =1 ")).collect();
            assert!(lines[0].parse::<u32>().is_ok() && lines[0] != ours, "{heard}");
            let mut names: Vec<&str> =
                lines[1..].iter().filter_map(|it| Some(it.split_once('=')?.0)).collect();
            names.sort_unstable();
            assert_eq!(names, ["HOME", "LANG", "PATH", "PWD"], "{heard}");
            assert!(heard.contains(&format!("=1 HOME={}\n", home.path().display())), "{heard}");
        }
    }
}
