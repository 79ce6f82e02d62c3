//! The table of mutants cannot rot: every fault in it still has its one place in the sources.

use std::path::Path;

#[test]
fn every_mutant_has_its_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("mutants/table.txt")).unwrap();
    let mut count = 0;
    for mutant in table.split("\n\n").filter(|it| it.starts_with("name: ")) {
        let field = |name: &str| {
            let found = mutant.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            found.unwrap_or_else(|| panic!("no `{name}:` in\n{mutant}"))
        };
        let source = std::fs::read_to_string(root.join(field("file"))).unwrap();
        let places = source.matches(field("old")).count();
        assert_eq!(places, 1, "mutant `{}`: its old text is there {places} times", field("name"));
        assert_ne!(field("old"), field("new"));
        assert!(!field("breaks").is_empty());
        count += 1;
    }
    assert!(count >= 16, "only {count} mutants are in the table");
}
