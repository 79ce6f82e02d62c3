//! Real Debian packages: two versions of a small one, a flat repository, and a root of its own for
//! every node, so that apt and dpkg change nothing of the machine that tests.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// What the repository has.
const VERSIONS: [&str; 2] = ["1.0", "1.1"];

/// Restarts the node's application, and returns when it runs again: as a unit's restart does that says
/// when it is ready. Others return when the old one is gone (`late`). dpkg may die in the middle
/// (`dies`), and the script may fail for a version (`fails`).
const POSTINST: &str = "#!/bin/sh
[ \"$1\" = configure ] || exit 0
home=${DPKG_ROOT%/*}
if [ -e \"$home/dies\" ]; then rm \"$home/dies\"; kill -9 \"$PPID\"; exit 1; fi
[ \"$(cat \"$home/fails\" 2>/dev/null)\" != \"$(cat \"$DPKG_ROOT/usr/share/shop/version\")\" ] || exit 1
cat \"$DPKG_ROOT/usr/share/shop/version\" >> \"$home/configured\"
[ -e \"$home/serves\" ] || exit 0
: > \"$home/restart\"
while [ -e \"$home/restart\" ]; do
  [ ! -e \"$home/late\" ] || [ ! -e \"$home/gone\" ] || exit 0
  sleep 0.02
done
";

/// The program `apt-get` of a node. It counts what is installed, and in which order.
const APT: &str = "#!/bin/sh
export APT_CONFIG=\"$HOME/apt.conf\"
case \"$*\" in
  *--download-only*) ;;
  install*) for what; do :; done; echo \"$what\" >> \"$HOME/touched\"; echo \"install $TOWPATH_NODE\" >> ROOT/order; echo install >> \"$HOME/told\" ;;
esac
exec apt-get -q \"$@\"
";

/// The program `dpkg` of a node.
const DPKG: &str = "#!/bin/sh
echo \"dpkg $*\" >> \"$HOME/told\"
exec dpkg --root=\"$HOME/root\" --force-not-root --force-script-chrootless --force-unsafe-io --log=/dev/null \"$@\"
";

/// The program `systemctl` of a node, which has the unit `chef-client` and no other. It remembers what
/// it was told, and in which state that leaves the unit.
const SYSTEMCTL: &str = "#!/bin/sh
[ \"$2\" = chef-client ] || { echo \"no unit $2\" >&2; exit 1; }
case $1 in
  cat) ;;
  stop | start) echo \"$1 $2\" >> \"$HOME/told\"; echo \"$1\" > \"$HOME/unit\" ;;
  *) echo \"cannot $1\" >&2; exit 2 ;;
esac
";

/// Builds the packages and the repository in `root/repo`, a node's root with 1.0 on it in
/// `root/image`, and the programs that stand for `apt-get`, `dpkg` and
/// `systemctl`.
pub(super) fn prepare(root: &Path) {
    let repo = root.join("repo");
    std::fs::create_dir(&repo).unwrap();
    let mut index = String::new();
    for version in VERSIONS {
        let tree = root.join(format!("shop-{version}"));
        write(&tree.join("usr/share/shop/version"), &format!("{version}\n"));
        let control = format!(
            "Package: shop\nVersion: {version}\nArchitecture: all\nMaintainer: Ada <ada@localhost>\nDescription: A shop\n"
        );
        write(&tree.join("DEBIAN/control"), &control);
        program(&tree.join("DEBIAN/postinst"), POSTINST);
        let file = format!("shop_{version}_all.deb");
        let built = repo.join(&file);
        let words = ["--root-owner-group", "-Znone", "-b"];
        run(Command::new("dpkg-deb").args(words).arg(&tree).arg(&built));
        let sum = run(Command::new("sha256sum").arg(&built));
        let sum = sum.split(' ').next().unwrap();
        let size = std::fs::metadata(&built).unwrap().len();
        write!(index, "{control}Filename: ./{file}\nSize: {size}\nSHA256: {sum}\n\n").unwrap();
    }
    write(&repo.join("Packages"), &index);
    program(&root.join("apt-get"), &APT.replace("ROOT", &root.display().to_string()));
    program(&root.join("dpkg"), DPKG);
    program(&root.join("systemctl"), SYSTEMCTL);
    let image = root.join("image");
    for directory in [
        "var/lib/dpkg/info",
        "var/lib/dpkg/updates",
        "var/lib/dpkg/triggers",
        "var/lib/apt/lists/partial",
        "var/cache/apt/archives/partial",
        "var/log/apt",
        "etc/apt/apt.conf.d",
        "etc/apt/preferences.d",
        "etc/apt/trusted.gpg.d",
    ] {
        std::fs::create_dir_all(image.join("root").join(directory)).unwrap();
    }
    write(&image.join("root/var/lib/dpkg/status"), "");
    let source = format!("deb [trusted=yes] file:{} ./\n", repo.display());
    write(&image.join("root/etc/apt/sources.list"), &source);
    configure(&image);
    apt(&image, &["update"]);
    apt(&image, &["install", "-y", "shop=1.0"]);
    std::fs::remove_file(image.join("configured")).unwrap();
}

/// Makes a home a node that runs 1.0.
pub(super) fn install(root: &Path, home: &Path) {
    run(Command::new("cp").arg("-a").arg(root.join("image/root")).arg(home));
    configure(home);
}

/// What `dpkg-query` says is there, whole or not.
pub(super) fn version(home: &Path) -> String {
    let database = home.join("root/var/lib/dpkg");
    let mut ask = Command::new("dpkg-query");
    ask.arg(format!("--admindir={}", database.display()));
    let output = ask.args(["--show", "--showformat=${Version}", "shop"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// apt's configuration for the root in a home.
fn configure(home: &Path) {
    let root = home.join("root");
    let root = root.display();
    write(
        &home.join("apt.conf"),
        &format!(
            "Dir \"{root}\";\nDir::State::status \"{root}/var/lib/dpkg/status\";\nDir::Log \"{root}/var/log/apt\";\n\
             APT::Architecture \"amd64\";\nAPT::Sandbox::User \"\";\nAcquire::Languages \"none\";\n\
             Dpkg::Options {{ \"--root={root}\"; \"--force-not-root\"; \"--force-script-chrootless\"; \"--force-unsafe-io\"; \"--log=/dev/null\"; }};\n"
        ),
    );
}

fn apt(home: &Path, args: &[&str]) {
    let mut apt = Command::new("apt-get");
    apt.arg("-q").args(args).env("APT_CONFIG", home.join("apt.conf"));
    run(apt.env("DEBIAN_FRONTEND", "noninteractive"));
}

/// Writes a program.
pub(super) fn program(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    write(path, text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
