//! How machines are named and reached: hosts, ports, accounts, paths, places in load balancers.

use crate::config::reader::{Leaf, Refused, Shape, shortened};
use crate::model::{Arg, PROJECT_HINT, Share, Socket, TRIGGER_KEY, project_path};
use crate::text::{self, Scalar};

use super::whole;

/// The name that `ssh` is given, with places to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct SshHost(pub(in crate::config) Arg);

impl Leaf for SshHost {
    const WHAT: &'static str = "the name of a host, with `{node}` in it";
    fn shape() -> Shape {
        Shape::Text(Some("^([A-Za-z0-9{][A-Za-z0-9._:{}-]*)$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        let text = scalar.text.as_ref();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:{}-".contains(&b);
        if text.is_empty() || text.starts_with('-') || !text.bytes().all(plain) {
            let message = format!("`{}` is no name of a host", shortened(&text::visible(text)));
            return Err(Refused::value(message, "write a name such as \"{node}.example.com\""));
        }
        let unknown = text.replace("{node}", "").replace("{environment}", "");
        if unknown.contains(['{', '}']) || !text.contains("{node}") {
            let message = "the host's name needs `{node}`, and knows only `{environment}` besides";
            return Err(Refused::value(message, "write a name such as \"{node}.example.com\""));
        }
        <Arg as Leaf>::parse(scalar).map(Self)
    }
}

/// A host name or address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct PlainHost(pub(in crate::config) String);

impl Leaf for PlainHost {
    const WHAT: &'static str = "a host name or address";
    fn shape() -> Shape {
        Shape::Text(Some("^[A-Za-z0-9:][A-Za-z0-9._:-]{0,252}$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        /// Longest name in DNS, in bytes.
        const HOST_MAX: usize = 253;
        let text = scalar.text.as_ref();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
        let good = (1..=HOST_MAX).contains(&text.len())
            && !text.starts_with(['-', '.'])
            && text.bytes().all(plain);
        if good {
            return Ok(Self(text.to_owned()));
        }
        let shown = shortened(&text::visible(text));
        Err(Refused::value(format!("`{shown}` is not {}", Self::WHAT), ""))
    }
}

/// What an inventory calls a variable of its hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct TheirName(pub(in crate::config) String);

impl Leaf for TheirName {
    const WHAT: &'static str = "the name of a variable in the inventory";
    fn shape() -> Shape {
        Shape::Text(Some("^[A-Za-z_][A-Za-z0-9_.-]{0,99}$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        /// Longest name, in bytes.
        const NAME_MAX: usize = 100;
        let text = scalar.text.as_ref();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if begins && text.len() <= NAME_MAX && text.bytes().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        let shown = shortened(&text::visible(text));
        Err(Refused::value(format!("`{shown}` is not {}", Self::WHAT), ""))
    }
}

/// How the names of an inventory's groups begin that are zones; without the `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct ZoneGroups(pub(in crate::config) String);

impl Leaf for ZoneGroups {
    const WHAT: &'static str = "a beginning of names of groups, such as \"az_*\"";
    fn shape() -> Shape {
        Shape::Text(Some("^[A-Za-z0-9_.-]{1,100}\\*$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        /// Longest beginning, in bytes.
        const NAME_MAX: usize = 100;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        let beginning = scalar.text.strip_suffix('*');
        let fits = |it: &&str| (1..=NAME_MAX).contains(&it.len()) && it.bytes().all(plain);
        beginning.filter(fits).map(|it| Self(it.to_owned())).ok_or_else(|| {
            let shown = shortened(&text::visible(&scalar.text));
            let hint = "write it with a `*` at its end, where the zone stands: \"az_*\"";
            Refused::value(format!("`{shown}` is not {}", Self::WHAT), hint)
        })
    }
}

/// The name of a pipeline's variable, or of a workflow's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct InputName(pub(in crate::config) String);

impl Leaf for InputName {
    const WHAT: &'static str = "the name of a variable or input";
    fn shape() -> Shape {
        Shape::Text(Some("^[A-Za-z_][A-Za-z0-9_-]{0,99}$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        /// GitHub's limit.
        const NAME_MAX: usize = 100;
        let text = scalar.text.as_ref();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
        let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !begins || text.len() > NAME_MAX || !text.bytes().all(plain) {
            let shown = shortened(&text::visible(text));
            return Err(Refused::value(format!("`{shown}` is not {}", Self::WHAT), ""));
        }
        if text.eq_ignore_ascii_case(TRIGGER_KEY) {
            let message = format!("`{text}` is what Towpath finds its pipelines by");
            return Err(Refused::value(message, "give the variable another name"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The file of a GitHub workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct WorkflowFile(pub(in crate::config) String);

impl Leaf for WorkflowFile {
    const WHAT: &'static str = "the file of a workflow, such as `deploy.yml`";
    fn shape() -> Shape {
        Shape::Text(Some("^[A-Za-z0-9_][A-Za-z0-9._-]{0,120}\\.ya?ml$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        let text = scalar.text.as_ref();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let stem = text.strip_suffix(".yml").or_else(|| text.strip_suffix(".yaml"));
        if stem.is_some_and(|it| !it.is_empty() && it.len() <= 121 && !it.starts_with(['.', '-']))
            && text.bytes().all(plain)
        {
            return Ok(Self(text.to_owned()));
        }
        let shown = shortened(&text::visible(text));
        let hint = "write the name of a file in .github/workflows, without directories";
        Err(Refused::value(format!("`{shown}` is not {}", Self::WHAT), hint))
    }
}

/// A project on a forge, with places to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct ProjectPath(pub(in crate::config) Arg);

impl Leaf for ProjectPath {
    const WHAT: &'static str = "the path of a project, such as `group/shop`";
    fn shape() -> Shape {
        Shape::Text(None)
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        let text = scalar.text.as_ref();
        match project_path(text) {
            Ok(_) => <Arg as Leaf>::parse(scalar).map(Self),
            Err(why) => {
                let shown = shortened(&text::visible(text));
                let message = format!("`{shown}` is not the path of a project: {why}");
                Err(Refused::value(message, PROJECT_HINT))
            }
        }
    }
}

/// A port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Port(pub(in crate::config) u16);

impl Leaf for Port {
    const WHAT: &'static str = "a port from 1 to 65535";
    fn shape() -> Shape {
        Shape::Number(1, u32::from(u16::MAX))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        let number = whole(scalar, Self::WHAT, u32::from(u16::MAX))?;
        match u16::try_from(number) {
            Ok(port @ 1..) => Ok(Self(port)),
            Ok(0) | Err(_) => Err(Refused::value(format!("{number} is no port"), "")),
        }
    }
}

/// The name of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct UnixName(pub(in crate::config) String);

impl Leaf for UnixName {
    const WHAT: &'static str = "the name of an account";
    fn shape() -> Shape {
        Shape::Text(Some("^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        /// Longest name that any system here allows, generously.
        const NAME_MAX: usize = 64;
        let text = scalar.text.as_ref();
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let good = !text.is_empty()
            && text.len() <= NAME_MAX
            && text.bytes().all(fits)
            && !text.starts_with(['-', '.']);
        if good {
            return Ok(Self(text.to_owned()));
        }
        let shown = shortened(&text::visible(text));
        Err(Refused::value(format!("`{shown}` is not {}", Self::WHAT), ""))
    }
}

/// An absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct WholePath(pub(in crate::config) String);

impl Leaf for WholePath {
    const WHAT: &'static str = "an absolute path";
    fn shape() -> Shape {
        Shape::Text(Some("^/"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        let text = scalar.text.as_ref();
        if text.starts_with('/') && !text.contains(char::is_control) {
            return Ok(Self(text.to_owned()));
        }
        let shown = shortened(&text::visible(text));
        Err(Refused::value(format!("`{shown}` is not {}", Self::WHAT), "begin it with `/`"))
    }
}

/// A stream socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct SocketName(pub(in crate::config) Socket);

impl Leaf for SocketName {
    const WHAT: &'static str = "a socket such as unix:/run/haproxy/admin.sock or tcp:host:port";
    fn shape() -> Shape {
        Shape::Text(Some("^(unix:/.+|tcp:.+:[0-9]{1,5})$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        /// Longest path that a Unix socket may have on Linux, in bytes.
        const PATH_MAX: usize = 107;
        let text = scalar.text.as_ref();
        let refuse = || {
            let shown = shortened(&text::visible(text));
            Refused::value(
                format!("`{shown}` is not a socket"),
                "write `unix:/path/to/socket` or `tcp:host:port`",
            )
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let fits = path.starts_with('/')
                && path.len() <= PATH_MAX
                && !path.contains(|c: char| c.is_control());
            return fits.then(|| Self(Socket::Unix(path.to_owned()))).ok_or_else(refuse);
        }
        let (host, port) =
            text.strip_prefix("tcp:").and_then(|it| it.rsplit_once(':')).ok_or_else(refuse)?;
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
        let named = !bare.is_empty() && !bare.starts_with('-') && bare.bytes().all(plain);
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse::<u16>().ok().filter(|port| digits && *port > 0);
        // An address with colons has brackets: its last part could be taken for the port.
        let clear = host != bare || !bare.contains(':');
        match port {
            Some(port) if named && clear => Ok(Self(Socket::Tcp(format!("{host}:{port}")))),
            Some(_) | None => Err(refuse()),
        }
    }
}

/// Whether a text may stand in a command to a load balancer as a name.
fn names_in_balancer(text: &str) -> bool {
    /// Longest name that anybody writes, generously.
    const NAME_MAX: usize = 128;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    !text.is_empty() && text.len() <= NAME_MAX && text.bytes().all(plain)
}

/// The name of a backend in a load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct BackendName(pub(in crate::config) String);

impl Leaf for BackendName {
    const WHAT: &'static str = "the name of a backend";
    fn shape() -> Shape {
        Shape::Text(Some("^[A-Za-z0-9._:-]{1,128}$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        let text = scalar.text.as_ref();
        if names_in_balancer(text) {
            return Ok(Self(text.to_owned()));
        }
        let shown = shortened(&text::visible(text));
        let hint = "letters, digits and `.`, `_`, `:`, `-` are possible";
        Err(Refused::value(format!("`{shown}` is not {}", Self::WHAT), hint))
    }
}

/// What a load balancer calls a node, with places to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct ServerName(pub(in crate::config) Arg);

impl Leaf for ServerName {
    const WHAT: &'static str = "the name of a server, with `{node}` in it";
    fn shape() -> Shape {
        Shape::Text(Some("^[A-Za-z0-9._:{}-]{1,128}$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        let text = scalar.text.as_ref();
        let rest = text.replace("{node}", "n").replace("{environment}", "e");
        if !text.contains("{node}") || !names_in_balancer(&rest) {
            let shown = shortened(&text::visible(text));
            let message = format!("`{shown}` is not {}", Self::WHAT);
            return Err(Refused::value(
                message,
                "write a name such as \"{node}\" or \"srv-{node}\"",
            ));
        }
        <Arg as Leaf>::parse(scalar).map(Self)
    }
}

/// A share of the traffic that a server usually gets, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Weight(pub(in crate::config) u32);

impl Leaf for Weight {
    const WHAT: &'static str = "a percentage from 0% to 100%";
    fn shape() -> Shape {
        Shape::Text(Some("^([0-9]{1,2}|100)%$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        match Share::parse(&scalar.text) {
            Ok(Share::Percent(percent)) => Ok(Self(percent)),
            Ok(Share::Count(_)) | Err(_) => {
                let shown = shortened(&text::visible(&scalar.text));
                Err(Refused::value(format!("`{shown}` is not {}", Self::WHAT), "write it as 25%"))
            }
        }
    }
}
