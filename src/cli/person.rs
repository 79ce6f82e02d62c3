//! Who sits at the keyboard: what a person does is recorded under their name.

use std::path::Path;

use crate::model::PersonName;

use super::{Failure, Kind};

/// Whose word it is.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct By {
    /// Your name, where it is not your login on this machine
    #[arg(long, value_name = "NAME")]
    pub by: Option<PersonName>,
}

impl By {
    /// The name that was given, else the login.
    pub(super) fn name(&self) -> Result<PersonName, Failure> {
        match &self.by {
            Some(name) => Ok(name.clone()),
            None => login(),
        }
    }
}

/// The login name of whoever runs this program, from `/etc/passwd`: not from the environment, which
/// says what anybody likes.
pub(super) fn login() -> Result<PersonName, Failure> {
    let uid = rustix::process::getuid().as_raw();
    let unknown = |why: &str| {
        Failure::new(Kind::Usage, format!("cannot tell who you are: {why}")).hint("say --by NAME")
    };
    let path = Path::new("/etc/passwd");
    let Ok(text) = std::fs::read_to_string(path) else {
        return Err(unknown("/etc/passwd cannot be read"));
    };
    let line = text.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    let name = line.and_then(|line| line.split(':').next());
    let name = name.ok_or_else(|| unknown(&format!("user {uid} is not in /etc/passwd")))?;
    PersonName::parse(name).map_err(|error| unknown(&error.to_string()))
}
