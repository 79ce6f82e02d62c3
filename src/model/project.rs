//! The path of a project on a forge, as people write it. It becomes part of addresses, so whatever would make them those of
//! something else is refused.

/// Longest path, in bytes; more than any forge takes.
const LENGTH_MAX: usize = 512;
/// How to write one.
pub const PROJECT_HINT: &str = "write it as the forge shows it, e.g. `group/shop`";

/// Why a path is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProject {
    /// Nothing but slashes.
    #[error("it is empty")]
    Empty,
    /// Two slashes, as in a URL.
    #[error("it has an empty part between two slashes")]
    EmptyPart,
    /// `.` or `..`.
    #[error("it has a part that is `.` or `..`")]
    Dots,
    /// Of an address, an encoded one, or a control character.
    #[error("it has a character that no project has (`%`, `?`, `#`, `\\`, or a control character)")]
    Character,
    /// Too long.
    #[error("it is longer than {LENGTH_MAX} bytes")]
    Long,
}

/// Reads the path of a project: without slashes around it, and nothing in it that means something in an address.
pub fn project_path(text: &str) -> Result<&str, BadProject> {
    let path = text.strip_prefix('/').unwrap_or(text);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Err(BadProject::Empty);
    }
    if path.len() > LENGTH_MAX {
        return Err(BadProject::Long);
    }
    if path.contains(|c: char| c.is_control() || "%?#\\".contains(c)) {
        return Err(BadProject::Character);
    }
    for part in path.split('/') {
        match part.trim() {
            "" => return Err(BadProject::EmptyPart),
            "." | ".." => return Err(BadProject::Dots),
            _ => {}
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_an_address_is_no_project() {
        for (text, path) in [
            ("shop", "shop"),
            ("group/sub group/conf.ig", "group/sub group/conf.ig"),
            ("/group/shop/", "group/shop"),
            ("group/...", "group/..."),
            ("größe/.github", "größe/.github"),
            ("group/{service}", "group/{service}"),
        ] {
            assert_eq!(project_path(text), Ok(path));
        }
        for (text, why) in [
            ("", BadProject::Empty),
            ("//", BadProject::Empty),
            ("///", BadProject::EmptyPart),
            ("group//shop", BadProject::EmptyPart),
            ("group/ /shop", BadProject::EmptyPart),
            ("https://gitlab.example.com/shop", BadProject::EmptyPart),
            ("..", BadProject::Dots),
            ("group/../other", BadProject::Dots),
            ("group/./shop", BadProject::Dots),
            ("group/shop/..", BadProject::Dots),
            ("group/.. /other", BadProject::Dots),
            ("group%2Fshop", BadProject::Character),
            ("group/%2e%2e/other", BadProject::Character),
            ("group/shop?x=1", BadProject::Character),
            ("group/shop#x", BadProject::Character),
            ("group\\..\\other", BadProject::Character),
            ("group/sh\nop", BadProject::Character),
        ] {
            assert_eq!(project_path(text), Err(why), "{text:?}");
        }
        assert_eq!(project_path(&"x".repeat(513)), Err(BadProject::Long));
    }
}
