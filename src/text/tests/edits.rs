//! Edits as data: a text with the value in «», and what must stand in its place, byte for byte.

use crate::text::{Pointer, edit, replace};

const V: &str = "/spec/version";

/// Name, document, text, pointer, new value, and either what replaces the marked bytes or the
/// refusal.
type Case = (
    &'static str,
    usize,
    &'static str,
    &'static str,
    &'static str,
    Result<&'static str, &'static str>,
);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("plain + trailing comment", 0, "# head\nspec:\n  version: «1.2.3»   # pinned by bot\n  other: x # c\n", V, "1.2.4", Ok("1.2.4")),
    ("single quoted", 0, "spec:\n  version: «'1.2.3'» # q\n", V, "1.2.4", Ok("'1.2.4'")),
    ("double quoted", 0, "spec:\n  version: «\"1.2.3\"»\t# tab comment\n", V, "1.2.4", Ok("\"1.2.4\"")),
    ("double quoted with escape", 0, "spec:\n  version: «\"1.2\\x2e3\"»\n  z: \"a\\tb\"\n", V, "1.2.4", Ok("\"1.2.4\"")),
    ("anchor on value, used", 0, "spec:\n  version: &v «1.2.3» # a\nother: *v\n", V, "1.2.4", Err("line 2: `&v` is used again on line 3, which would change too")),
    ("anchor on value, not used", 0, "spec:\n  version: &v «1.2.3» # a\nother: v\n", V, "1.2.4", Ok("1.2.4")),
    ("anchor around value, used", 0, "spec: &s\n  version: «1.2.3» # a\nother: *s\nmore: [*s]\n", V, "1.2.4", Err("line 1: `&s` is used again on lines 3, 4, which would change too")),
    ("value is alias", 0, "base: &v 1.2.3\nspec:\n  version: «*v» # alias\n", V, "1.2.4", Err("line 3: the value is the alias `*v`")),
    ("way through alias", 0, "base: &v {version: 1.2.3}\nspec: «*v» # alias\n", V, "1.2.4", Err("line 2: the way there leads through the alias `*v`")),
    ("tagged !!str", 0, "spec:\n  version: !!str «1.2» # t\n", V, "1.3", Ok("\"1.3\"")),
    ("tagged !", 0, "spec:\n  version: ! «1.2.0» # t\n", V, "1.3.0", Ok("1.3.0")),
    ("tagged !!int", 0, "spec:\n  version: !!int «12» # t\n", V, "1.3", Err("line 2: the value is tagged `!!int`")),
    ("custom tag", 0, "spec:\n  version: !ver «1.2.3»\n", V, "1.2.4", Err("line 2: the value is tagged `!ver`")),
    ("custom tag elsewhere", 0, "x: !ver 1\nspec: !sp\n  version: «1.2.3»\n", V, "1.2.4", Ok("1.2.4")),
    ("flow map", 0, "spec: {name: a,  version: «1.2.3», x: [1,2] }  # f\n", V, "1.2.4", Ok("1.2.4")),
    ("flow like JSON", 0, "{\"spec\":{\"a\":1,\"version\":«\"1.2.3\"»,\"z\":[1, 2]}}\n", V, "1.2.4", Ok("\"1.2.4\"")),
    ("flow multi-line with comments", 0, "spec: {\n  name: a, # one\n  version: «1.2.3», # two\n  z: 1\n}\n", V, "1.2.4", Ok("1.2.4")),
    ("second document", 1, "spec:\n  version: 0.0.1\n---\n# second\nspec:\n  version: «1.2.3»\n---\nspec: {version: 9}\n", V, "1.2.4", Ok("1.2.4")),
    ("no such document", 3, "spec:\n  version: «1.2.3»\n---\nspec: {version: 9}\n", V, "1.2.4", Err("there is no document 3: the file has 2, counted from 0")),
    ("documents with ... and directive", 1, "%YAML 1.2\n---\nspec: {version: 1}\n...\n%YAML 1.2\n---\nspec: {version: «1.2.3»}\n...\n", V, "1.2.4", Ok("1.2.4")),
    ("CRLF", 0, "# head\r\nspec:\r\n  version: «1.2.3»  # c\r\n  other: x\r\n", V, "1.2.4", Ok("1.2.4")),
    ("literal block, then key", 0, "spec:\n  version: «|\n    1.2.3\n»  other: x # c\n", V, "1.2.4", Ok("1.2.4\n")),
    ("block scalar elsewhere kept", 0, "spec:\n  notes: |+\n    keep\n\n\n  version: «1.2.3»\n  n2: >-\n    folded\n     more\n\n# end\n", V, "1.2.4", Ok("1.2.4")),
    ("non-ASCII before", 0, "# ünïcödé 🚀 コメント\nname: \"žluťoučký 🐴\"\nspec:\n  名前: 値\n  version: «1.2.3» # ✓\n  z: é\n", V, "1.2.4", Ok("1.2.4")),
    ("non-ASCII on the same line", 0, "spec: {名前: \"値🚀\", version: «1.2.3», ž: 1}\n", V, "1.2.4", Ok("1.2.4")),
    ("BOM", 0, "\u{feff}spec:\n  version: «1.2.3»\n", V, "1.2.4", Ok("1.2.4")),
    ("U+2028 and NEL in strings", 0, "a: \"x\u{2028}y\u{85}z\"\nspec:\n  version: «1.2.3»\n", V, "1.2.4", Ok("1.2.4")),
    ("no final newline", 0, "spec:\n  version: «1.2.3»", V, "1.2.4", Ok("1.2.4")),
    ("mapping in list", 0, "spec:\n- name: x\n  version: 0.1\n-   name: y\n    version: «1.2.3» # y\n- {name: z, version: 3}\n", "/spec/1/version", "1.2.4", Ok("1.2.4")),
    ("list in list", 0, "spec:\n  - - a\n    - «b» # bb\n  - c\n", "/spec/0/1", "B2", Ok("B2")),
    ("quoted key + space before colon", 0, "spec:\n  \"version\" : «1.2.3»\n", V, "1.2.4", Ok("1.2.4")),
    ("explicit key ?", 0, "spec:\n  ? version\n  : «1.2.3» # e\n  ? x\n  : y\n", V, "1.2.4", Ok("1.2.4")),
    ("value on next line", 0, "spec:\n  version:\n      «1.2.3» # far\n  z: 1\n", V, "1.2.4", Ok("1.2.4")),
    ("comment between key and value", 0, "spec:\n  version: # why\n    «1.2.3»\n  z: 1\n", V, "1.2.4", Ok("1.2.4")),
    ("multi-line plain", 0, "spec:\n  version: «1.2.3\n    and more»\n  z: 1\n", V, "1.2.4", Ok("1.2.4")),
    ("multi-line double quoted", 0, "spec:\n  version: «\"1.2\\\n    .3\"»\n  z: 1\n", V, "1.2.4", Ok("\"1.2.4\"")),
    ("nothing", 0, "spec:\n  version:«» # none yet\n  z: 1\n", V, "1.2.4", Ok(" 1.2.4")),
    ("tilde", 0, "spec:\n  version: «~» # none yet\n  z: 1\n", V, "1.2.4", Ok("1.2.4")),
    ("merge key beside", 0, "b: &b {version: 0.1, x: 1}\nspec:\n  <<: *b\n  version: «1.2.3»\n", V, "1.2.4", Ok("1.2.4")),
    ("through merge key", 0, "b: &b {version: «0.1», x: 1}\nspec:\n  <<: *b\n", V, "1.2.4", Err("line 3: `version` is not there itself, but a merge key `<<` may bring it")),
    ("same key elsewhere", 0, "version: 1.2.3\nspec:\n  spec: {version: 1.2.3}\n  version: «1.2.3»\nx: {spec: {version: 1.2.3}}\n", V, "1.2.4", Ok("1.2.4")),
    ("key with dots and slash", 0, "spec:\n  a.b/c: 1\n  app.kubernetes.io/version: «1.2.3»\n", "/spec/app.kubernetes.io~1version", "1.2.4", Ok("1.2.4")),
    ("odd blanks", 0, "spec:\n\n    name:   x   \n    version:     «1.2.3»     \n\n\n    z:  1\n  \n", V, "1.2.4", Ok("1.2.4")),
    ("needs quotes: boolean", 0, "spec:\n  version: «1.2.3»\n", V, "yes", Ok("\"yes\"")),
    ("needs quotes: number", 0, "spec:\n  version: «abc» # c\n", V, "1.10", Ok("\"1.10\"")),
    ("needs quotes: colon and hash", 0, "spec:\n  version: «abc»\n", V, "a: b #c", Ok("\"a: b #c\"")),
    ("needs quotes in flow", 0, "spec: {version: «abc», z: 1}\n", V, "a,b]", Ok("\"a,b]\"")),
    ("quote sign in single quotes", 0, "spec:\n  version: «'abc'»\n", V, "it's \\ \"q\"", Ok("'it''s \\ \"q\"'")),
    ("quote sign in double quotes", 0, "spec:\n  version: «\"abc\"»\n", V, "it's \\ \"q\"", Ok("\"it's \\\\ \\\"q\\\"\"")),
    ("several lines", 0, "spec:\n  version: «abc» # c\n  z: 1\n", V, "l1\nl2", Ok("\"l1\\nl2\"")),
    ("empty string", 0, "spec:\n  version: «abc» # c\n  z: 1\n", V, "", Ok("\"\"")),
    ("image in list", 0, "spec:\n  containers:\n  - image: \"nginx:1.2\"   # keep\n  - name: app\n    image: «registry/x:1.2.3»\n    env: [{name: A, value: \"1\"}]\n", "/spec/containers/1/image", "registry/x@sha256:abcd", Ok("registry/x@sha256:abcd")),
    ("nothing at end of file", 0, "spec:\n  version:«»", V, "1.2.4", Ok(" 1.2.4")),
    ("nothing, quoted key, CRLF", 0, "spec:\r\n  \"version\" :«»\r\n  z: 1\r\n", V, "1.2.4", Ok(" 1.2.4")),
    ("nothing in flow", 0, "spec: {version:«», z: 1}\n", V, "1.2.4", Ok(" 1.2.4")),
    ("nothing with anchor", 0, "spec:\n  version: &a«»\nz: 1\n", V, "1.2.4", Ok(" 1.2.4")),
    ("nothing with tag and anchor", 0, "spec:\n  version: !!str &a«» # c\nz: 1\n", V, "1.2.4", Ok(" 1.2.4")),
    ("nothing in list", 0, "spec:\n  -«»\n  - a\n", "/spec/0", "1.2.4", Ok(" 1.2.4")),
    ("nothing as first of a list, comment", 0, "spec:\n  -«» # c\n  - a\n", "/spec/0", "1.2.4", Err("line 2: cannot change this and be sure that nothing else changes")),
    ("nothing in list behind dash and comment", 0, "- a-\n# c\n-«» # c\n- b\n", "/1", "1.2.4", Ok(" 1.2.4")),
    ("nothing at the end of a list", 0, "- a-\n-«» # c", "/1", "1.2.4", Ok(" 1.2.4")),
    ("nothing, explicit key", 0, "spec:\n  ? version # a\n  :«»\n  ? b\n", V, "1.2.4", Ok(" 1.2.4")),
    ("key alone in flow", 0, "spec: {version«», b: c}\n", V, "1.2.4", Err("line 1: cannot change this and be sure that nothing else changes")),
    ("folded block CRLF", 0, "spec:\r\n  version: «>-\r\n    1.2\r\n    .3\r\n»  z: 1\r\n", V, "1.2.4", Ok("1.2.4\r\n")),
    ("block with indent indicator + comment", 0, "spec:\n  version: «|2- # cc\n     x\n    y\n»  z: 1\n", V, "1.2.4", Ok("1.2.4 # cc\n")),
    ("block value with | and >", 0, "spec:\n  version: «|\n    a | b > c\n    |\n»  z: |\n    q\n", V, "1.2.4", Ok("1.2.4\n")),
    ("block with | in comment", 0, "spec:\n  version: «| # a | b\n    c»\n\n  # d\n  z: 1\n", V, "1.2.4", Ok("1.2.4 # a | b")),
    ("block at end without newline", 0, "spec:\n  version: «|\n    abc»", V, "1.2.4", Ok("1.2.4")),
    ("block with kept blank lines", 0, "spec:\n  version: «|+\n    abc»\n\n\n  z: 1\n", V, "1.2.4", Ok("1.2.4")),
    ("empty block", 0, "spec:\n  version: «|»\n  z: 1\n", V, "1.2.4", Ok("1.2.4")),
    ("block in list", 0, "spec:\n  - «>-\n    a»\n  - |\n    b\n", "/spec/0", "1.2.4", Ok("1.2.4")),
    ("second block in list", 0, "spec:\n  - >-\n    a\n  # c\n  - «|\n    b»\n", "/spec/1", "1.2.4", Ok("1.2.4")),
    ("block on its own line, tagged", 0, "spec:\n  version: !!str &x # c\n    «|\n    b»\n", V, "1.2.4", Ok("1.2.4")),
    ("block as document", 0, "--- «|\n b»\n", "", "1.2.4", Ok("1.2.4")),
    ("anchor + tag + quoted, used", 0, "spec:\n  version: !!str &v «\"1.2.3\"» # x\nz: *v\n", V, "1.2.4", Err("line 2: `&v` is used again on line 3, which would change too")),
    ("anchor + tag + quoted", 0, "spec:\n  version: !!str &v «\"1.2.3\"» # x\nz: v\n", V, "1.2.4", Ok("\"1.2.4\"")),
    ("alias as key", 0, "k: &k version\nspec:\n  *k : «1.2.3»\n", V, "1.2.4", Err("line 3: the way there leads through the alias `*k`")),
    ("key without value beside", 0, "spec:\n  ? a\n  version: «1.2.3»\n", V, "1.2.4", Ok("1.2.4")),
    ("plain with signs", 0, "spec:\n  version: «v1.2.3-rc.1+b@x:y#z» # c\n", V, "1.2.4", Ok("1.2.4")),
    ("tab after colon", 0, "spec:\n  version:\t«1.2.3»\n", V, "1.2.4", Ok("1.2.4")),
    ("list not indented, comments", 0, "# a\n\n# b\nspec:\n# c\n- x\n# d\n- «y»  # e\n# f\n- z\n# g\n", "/spec/1", "Y", Ok("\"Y\"")),
    ("a number becomes a string", 0, "spec:\n  version: «1.10»\n", V, "1.10", Ok("\"1.10\"")),
    ("the same again", 0, "spec:\n  version: «'1.10'»\n", V, "1.10", Ok("'1.10'")),
    ("not found", 0, "spec:\n  versoin: «1.10»\n", V, "1.10", Err("nothing at /spec/version: no `version`")),
    ("not found on the way", 0, "spec: «1.10»\n", V, "1.10", Err("nothing at /spec/version: no `version`")),
    ("past the end of a list", 0, "spec: [«a», b]\n", "/spec/2", "1.10", Err("nothing at /spec/2: no `2`")),
    ("list position with a zero", 0, "spec: [«a», b]\n", "/spec/00", "1.10", Err("nothing at /spec/00: no `00`")),
    ("mapping", 0, "spec:\n  «version»: 1.10\n", "/spec", "1.10", Err("line 2: a mapping stands there, not a single value")),
    ("list", 0, "spec: [«a»]\n", "/spec", "1.10", Err("line 1: a list stands there, not a single value")),
    ("duplicate key", 0, "spec:\n  version: «1.0.1»\nspec:\n  version: 1.0.1\n", V, "1.10", Err("line 3: key `spec` is given twice, first on line 1")),
    ("duplicate value", 0, "spec:\n  version: «1.0.1»\n  \"version\": 1.0.1\n", V, "1.10", Err("line 3: key `version` is given twice, first on line 2")),
    ("duplicate key elsewhere", 0, "spec:\n  a: b\n  a: c\n  version: «1.0.1»\n", V, "1.0.2", Ok("1.0.2")),
    ("unreadable", 0, "spec: [«\n", V, "1.10", Err("line 1, column 7: unclosed bracket '['")),
    ("key of number", 0, "spec: {1: «a»}\n", "/spec/1", "b", Ok("b")),
    ("the whole document", 0, "# c\n«a» # d\n", "", "b", Ok("b")),
];

#[test]
fn every_case() {
    for &(name, document, text, pointer, new, want) in CASES {
        let (before, rest) = text.split_once('«').unwrap();
        let (old, behind) = rest.split_once('»').unwrap_or((rest, ""));
        let source = [before, old, behind].concat();
        let pointer: Pointer = pointer.parse().unwrap();
        let got = replace(source.as_bytes(), document, &pointer, new);
        let got = got.map(|bytes| String::from_utf8(bytes).unwrap()).map_err(|e| e.to_string());
        let want = want.map(|want| [before, want, behind].concat()).map_err(str::to_owned);
        assert_eq!(got, want, "{name}: {source:?}");
        if let Ok(once) = got {
            let twice = replace(once.as_bytes(), document, &pointer, new);
            assert_eq!(twice, Ok(once.into_bytes()), "{name}, again");
        }
    }
}

#[test]
fn lines_are_counted_once_however_many_there_are() {
    let many = "c: *a\n".repeat(20_000);
    let pointer = Pointer::new(["a"]);
    let shared = replace(format!("a: &a b\n{many}").as_bytes(), 0, &pointer, "c").unwrap_err();
    assert!(
        shared.to_string().ends_with("lines 2, 3, 4, 5, 6 and 19995 more, which would change too")
    );
    let twice = replace("a: b\n".repeat(20_000).as_bytes(), 0, &pointer, "c").unwrap_err();
    assert_eq!(twice.to_string(), "line 2: key `a` is given twice, first on line 1");
}

#[test]
fn a_misspelt_key_is_suggested() {
    let pointer: Pointer = "/targets/prodcution/ref".parse().unwrap();
    let refusal = replace(b"targets: {staging: 1, production: {ref: a}}", 0, &pointer, "b");
    assert_eq!(refusal.unwrap_err().hint(), "did you mean `production`?");
}

#[test]
fn too_large_and_not_utf8_are_refused() {
    let pointer = Pointer::new(["a"]);
    let refused = |bytes: &[u8]| replace(bytes, 0, &pointer, "b").unwrap_err().to_string();
    assert_eq!(refused(b"a: \xff"), "the file is not UTF-8 at byte 3");
    let large = vec![b' '; super::super::EDIT_BYTES_MAX + 1];
    assert!(refused(&large).starts_with("the file has 16777217 bytes"));
}

/// Edits `file` at /a/b with the value in «», and gives the text or the refusal.
fn edited(file: &str, text: &str, new: &str) -> String {
    let pointer: Pointer = "/a/b".parse().unwrap();
    match edit(file, text.as_bytes(), 0, &pointer, new) {
        Ok(bytes) => String::from_utf8(bytes).unwrap(),
        Err(refusal) => format!("{refusal}; {}", refusal.hint()),
    }
}

#[test]
fn json_stays_json() {
    assert_eq!(
        edited("x.json", r#"{"a": {"b": null}}"#, "v1\u{1}"),
        "{\"a\": {\"b\": \"v1\\u0001\"}}"
    );
    assert_eq!(edited("x.json", r#"{"a": {"b":"c"}}"#, "v1"), r#"{"a": {"b":"v1"}}"#);
}

#[test]
fn toml_keeps_every_other_byte() {
    let bom = "\u{feff}# c\r\n[a]\r\nb = 'x'  # d\r\nc = 1\r\n";
    assert_eq!(edited("x.toml", bom, "y"), bom.replace("'x'", "'y'"));
    assert_eq!(
        edited("x.toml", "a.b = \"x\" # é\n", "it's \"é\""),
        "a.b = \"it's \\\"é\\\"\" # é\n"
    );
    assert_eq!(edited("x.toml", "a = { b = 'x' }", "it's"), "a = { b = \"it's\" }");
    assert_eq!(edited("x.toml", "[a]\nb = \"\"\"\nx\n\"\"\"\nc = 1", "y"), "[a]\nb = \"y\"\nc = 1");
    assert_eq!(edited("x.TOML", "[a]\nb = '''x'''", "1.10"), "[a]\nb = '1.10'");
    let at = |pointer: &str| {
        let pointer: Pointer = pointer.parse().unwrap();
        let text = b"[[a]]\nb = 'x'\n[[a]]\nb = ['x', 'y']\n";
        edit("x.toml", text, 0, &pointer, "z").map(|bytes| String::from_utf8(bytes).unwrap())
    };
    assert_eq!(at("/a/0/b").unwrap(), "[[a]]\nb = 'z'\n[[a]]\nb = ['x', 'y']\n");
    assert_eq!(at("/a/1/b/1").unwrap(), "[[a]]\nb = 'x'\n[[a]]\nb = ['x', 'z']\n");
    assert_eq!(at("/a/2/b").unwrap_err().to_string(), "nothing at /a/2: no `2`");
}

#[test]
fn what_cannot_be_edited_says_why() {
    expect_test::expect![[r"
        line 2: the value is a number, not a string; put it in quotes by hand first
        line 1: a list stands there, not a single value; point at a single value inside it
        nothing at /a/b: no `b`; did you mean `bb`?
        line 1, column 5: string values must be quoted, expected literal string; mend the file first
        x.ini is neither YAML nor TOML nor JSON; rename it to .yaml, .yml, .json or .toml
        line 1: the value is tagged `!%1B`; remove the tag, or edit by hand
    "]]
    .assert_eq(
        &[
            edited("x.toml", "[a]\nb = 1.10", "1.11"),
            edited("x.toml", "a.b = []", "1.11"),
            edited("x.toml", "a.bb = 'x'", "1.11"),
            edited("x.toml", "a = b", "1.11"),
            edited("x.ini", "a = b", "1.11"),
            edited("x.yml", "a: {b: !%1B x}", "1.11"),
        ]
        .map(|line| line + "\n")
        .concat(),
    );
}

#[test]
fn pointers_are_read_and_written() {
    let read = |text: &str| text.parse::<Pointer>();
    assert_eq!(read("/a~1b/~0c//0").unwrap().segments(), ["a/b", "~c", "", "0"]);
    assert_eq!(read("/a~1b/~0c//0").unwrap().to_string(), "/a~1b/~0c//0");
    assert!(read("").unwrap().segments().is_empty());
    assert_eq!(
        read("a").unwrap_err().to_string(),
        "a pointer starts with `/`, as in `/targets/production/ref`"
    );
    assert!(read("/a~2").is_err() && read("/a~").is_err());
}
