//! `towpath edit`: one value, byte-exact, or nothing at all.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use expect_test::{Expect, expect};

use crate::cli::World;

const SHOP: &str = "# The shop.\r\nservice: shop\r\ntargets:\r\n  production: { ref: '1.4.1' } # not yet\r\n  staging: &s\r\n    ref: 1.4.2";

#[test]
fn one_value_changes_and_not_another_byte() {
    let world = World::new();
    let path = world.write("shop.yaml", SHOP);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    world.check(
        &["edit", "shop.yaml", "/targets/production/ref", "1.4.2"],
        &expect![[r#"
        shop.yaml:4
        -  production: { ref: '1.4.1' } # not yet
        +  production: { ref: '1.4.2' } # not yet
        status 0
    "#]],
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), SHOP.replace("1.4.1", "1.4.2"));
    assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o640);
    world.check(
        &["edit", "shop.yaml", "/targets/production/ref", "1.4.2"],
        &expect![[r#"
        ----
        shop.yaml: unchanged, it says so already
        status 0
    "#]],
    );
    // A value that YAML would not take for a string gets quotes.
    world.check(
        &["edit", "shop.yaml", "/targets/staging/ref", "1.10"],
        &expect![[r#"
        shop.yaml:6
        -    ref: 1.4.2
        +    ref: "1.10"
        status 0
    "#]],
    );
    let names: Vec<_> = std::fs::read_dir(world.path(".")).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "nothing is left over: {names:?}");
}

#[test]
fn toml_json_and_later_documents_can_be_edited() {
    let world = World::new();
    world.write("a.toml", "[x]\nref = '1' # one\n");
    world.check(
        &["edit", "a.toml", "/x/ref", "2"],
        &expect![[r#"
        a.toml:2
        -ref = '1' # one
        +ref = '2' # one
        status 0
    "#]],
    );
    world.write("a.json", "{\"x\": [\"1\", \"2\"]}\n");
    world.check(
        &["edit", "a.json", "/x/1", "3"],
        &expect![[r#"
        a.json:1
        -{"x": ["1", "2"]}
        +{"x": ["1", "3"]}
        status 0
    "#]],
    );
    world.write("many.yaml", "a: x\n---\na: y\n");
    world.check(
        &["edit", "many.yaml", "/a", "z", "--document", "1"],
        &expect![[r#"
        many.yaml:3
        -a: y
        +a: z
        status 0
    "#]],
    );
    let told = world.json(&["edit", "many.yaml", "/a", "q", "--json"], 0);
    assert_eq!(told[0]["changed"], true);
    let told = world.json(&["edit", "many.yaml", "/a", "q", "--json"], 0);
    assert_eq!((&told[0]["changed"], &told[0]["line"]), (&false.into(), &serde_json::Value::Null));
}

#[test]
fn what_cannot_be_edited_safely_is_left_untouched() {
    let world = World::new();
    let refuse = |text: &[u8], args: &[&str], want: &Expect| {
        let path = world.write("shop.yaml", text);
        let before = path.metadata().unwrap();
        world.check(&[&["edit", "shop.yaml"], args].concat(), want);
        let after = path.metadata().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), text);
        let stamp = |it: &std::fs::Metadata| (it.ino(), it.mtime(), it.mtime_nsec());
        assert_eq!(stamp(&after), stamp(&before));
    };
    let shop = SHOP.as_bytes();
    refuse(
        shop,
        &["/targets/producton/ref", "2"],
        &expect![[r#"
        ----
        error: shop.yaml is left as it is: nothing at /targets/producton: no `producton`
        help: did you mean `production`?
        status 65
    "#]],
    );
    refuse(
        shop,
        &["/targets", "2"],
        &expect![[r#"
        ----
        error: shop.yaml is left as it is: line 4: a mapping stands there, not a single value
        help: point at a single value inside it
        status 65
    "#]],
    );
    refuse(
        shop,
        &["/service", "2", "--document", "3"],
        &expect![[r#"
        ----
        error: shop.yaml is left as it is: there is no document 3: the file has 1, counted from 0
        help: choose one of the documents that are there
        status 65
    "#]],
    );
    refuse(
        b"a: &x 1\nb: *x\n",
        &["/b", "2"],
        &expect![[r#"
        ----
        error: shop.yaml is left as it is: line 2: the value is the alias `*x`
        help: write the value out in place of the alias
        status 65
    "#]],
    );
    refuse(
        b"a: 1\na: 2\n",
        &["/a", "2"],
        &expect![[r#"
        ----
        error: shop.yaml is left as it is: line 2: key `a` is given twice, first on line 1
        help: remove one of the two; readers differ in which one counts
        status 65
    "#]],
    );
    refuse(
        b"a: [1\nb: }\n",
        &["/a", "2"],
        &expect![[r#"
        ----
        error: shop.yaml is left as it is: line 2, column 2: illegal placement of ':' indicator
        help: mend the file first
        status 65
    "#]],
    );
    refuse(
        b"a: caf\xe9\n",
        &["/a", "2"],
        &expect![[r#"
        ----
        error: shop.yaml is left as it is: the file is not UTF-8 at byte 6
        help: save the file as UTF-8
        status 65
    "#]],
    );
}

#[test]
fn mistakes_of_the_command_itself_have_their_own_status() {
    let world = World::new();
    world.check(
        &["edit", "nowhere.yaml", "/a", "2"],
        &expect![[r#"
        ----
        error: reading nowhere.yaml: No such file or directory (os error 2)
        status 1
    "#]],
    );
    world.check(&["edit", "nowhere.yaml", "a", "2"], &expect![[r#"
        ----
        error: invalid value 'a' for '<POINTER>': a pointer starts with `/`, as in `/targets/production/ref`

        For more information, try '--help'.
        status 64
    "#]]);
    world.check(
        &["edit", ".", "/a", "2"],
        &expect![[r#"
        ----
        error: . is no regular file
        status 65
    "#]],
    );
    world.write("notes.txt", "a: 1\n");
    world.check(
        &["edit", "notes.txt", "/a", "2"],
        &expect![[r#"
            ----
            error: notes.txt is neither YAML nor TOML nor JSON
            help: rename it to .yaml, .yml, .json or .toml
            status 65
        "#]],
    );
}

#[test]
fn a_link_stays_a_link_and_its_file_is_edited() {
    let world = World::new();
    let path = world.write("real.yaml", "a: x\n");
    symlink("real.yaml", world.path("link.yaml")).unwrap();
    world.check(
        &["edit", "link.yaml", "/a", "z"],
        &expect![[r#"
        link.yaml:1
        -a: x
        +a: z
        status 0
    "#]],
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a: z\n");
    assert!(world.path("link.yaml").symlink_metadata().unwrap().is_symlink());
}

#[test]
fn a_file_of_300_kib_is_edited_too() {
    let world = World::new();
    let filler = "# filler, filler, filler\n".repeat(12_300);
    let path = world.write("big.yaml", format!("{filler}a: x\n"));
    world.check(
        &["edit", "big.yaml", "/a", "z"],
        &expect![[r#"
        big.yaml:12301
        -a: x
        +a: z
        status 0
    "#]],
    );
    assert!(std::fs::read_to_string(&path).unwrap() == format!("{filler}a: z\n"));
}
