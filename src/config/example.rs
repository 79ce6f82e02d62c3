//! The config repo that a newcomer starts from: what `towpath init` writes.

/// Paths and texts of the smallest config repo that shows the whole way.
pub fn minimal() -> &'static [(&'static str, &'static str)] {
    macro_rules! files {
        ($($path:literal),+ $(,)?) => {
            &[$(($path, include_str!(concat!("../../examples/minimal/", $path)))),+]
        };
    }
    files![
        "towpath.yaml",
        "environments/staging.yaml",
        "environments/canary.yaml",
        "environments/production.yaml",
        "recipes/simple.yaml",
        "services/hello.yaml",
    ]
}
