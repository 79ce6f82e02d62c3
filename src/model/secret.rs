//! What must not be shown: a token. Neither printable nor comparable, and scrubbed from what others say.

use std::sync::Arc;

/// Shortest secret that is looked for in other texts; a shorter one would be found everywhere.
const SCRUB_MIN: usize = 6;

/// A secret. Has no `Debug` and no `Display`, so that a type which holds one cannot derive them.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Keeps a text; white space around it is no part of it. `None` if nothing is left, or if it holds
    /// what no header may.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fine = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        fine.then(|| Self(Arc::from(text)))
    }

    /// The text itself: for a header or a child's environment, never for people.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A text without the secret.
    pub fn scrub(&self, text: &str) -> String {
        if self.0.len() < SCRUB_MIN { text.to_owned() } else { text.replace(&*self.0, "***") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_word_and_leaves_no_trace() {
        for bad in ["", "  \n", "two words", "line\nbreak", "bell\u{7}"] {
            assert!(Secret::new(bad).is_none(), "{bad:?}");
        }
        let secret = Secret::new(" glpat-0123456789\n").unwrap();
        assert_eq!(secret.expose(), "glpat-0123456789");
        assert_eq!(secret.scrub("no glpat-0123456789 here"), "no *** here");
    }
}
