//! Examples and schemas: what we show must work, and be what the code says.

use std::path::{Path, PathBuf};

use super::{REVISION, file, shown};
use crate::config::{Change, Loaded, minimal, schema};

fn collect(root: &Path, at: &Path, all: &mut Vec<Change>) {
    for entry in std::fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, all);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            all.push(file(name, std::fs::read(&path).unwrap()));
        }
    }
}

fn at_home(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn every_example_loads_without_a_word() {
    for (name, targets) in [("minimal", 3), ("gitlab-com", 3), ("app-interface", 12)] {
        let root = at_home("examples").join(name);
        let mut all = Vec::new();
        collect(&root, &root, &mut all);
        let loaded = Loaded::load(REVISION, all);
        assert_eq!(shown(&loaded.findings()), "", "{name}");
        assert_eq!(loaded.target_count(), targets, "{name}");
        let snapshot = loaded.snapshot();
        assert!(snapshot.targets().all(|it| snapshot.spec(&it).is_some()), "{name}");
    }
}

#[test]
fn the_first_repo_is_the_minimal_example_and_whole() {
    let mut all = Vec::new();
    let root = at_home("examples/minimal");
    collect(&root, &root, &mut all);
    assert_eq!(all.len(), minimal().len());
    let loaded = Loaded::load(REVISION, minimal().iter().map(|(path, text)| file(path, *text)));
    assert_eq!(shown(&loaded.findings()), "");
}

#[test]
fn the_schemas_are_what_the_code_says() {
    let renew = std::env::vars().any(|(name, _)| name == "UPDATE_SCHEMAS");
    for (name, schema) in schema::all() {
        let path = at_home("schemas").join(name);
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if renew {
            std::fs::create_dir_all(at_home("schemas")).unwrap();
            std::fs::write(&path, text).unwrap();
        } else {
            let old = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(old == text, "{name} is not current: UPDATE_SCHEMAS=1 cargo test schemas");
        }
    }
}
