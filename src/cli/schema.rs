//! `towpath schema`: the shape of the config, for editors.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::schema;
use crate::text::closest;

use super::{Common, Failure, Kind, Tone, Ui};

/// Print the JSON Schemas that give editors completion
///
/// Without a NAME it lists them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  towpath schema service > service.schema.json
  towpath schema --write .schemas

In a file, for the YAML language server:
  # yaml-language-server: $schema=../.schemas/service.schema.json")]
pub struct Args {
    /// Which one
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// Write all of them to this directory
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    write: Option<PathBuf>,
}

/// Runs it.
pub(super) fn run(args: &Args, _common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Args { name, write } = args;
    let all = schema::all();
    match (name, write) {
        (Some(name), _) => one(&all, name, ui)?,
        (None, Some(dir)) => write_all(&all, dir, ui)?,
        (None, None) => list(&all, ui),
    }
    Ok(0)
}

type Named = (&'static str, serde_json::Value);

const SUFFIX: &str = ".schema.json";

fn short(file: &str) -> &str {
    file.strip_suffix(SUFFIX).unwrap_or(file)
}

fn one(all: &[Named], name: &str, ui: &Ui) -> Result<(), Failure> {
    let found = all.iter().find(|(file, _)| *file == name || short(file) == name);
    let Some((_, schema)) = found else {
        let names: Vec<&str> = all.iter().map(|(file, _)| short(file)).collect();
        let error = format!("there is no schema `{}`", crate::text::visible(name));
        let hint = match closest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", names.join(", ")),
        };
        return Err(Failure::new(Kind::Usage, error).hint(hint));
    };
    ui.result(format_args!("{schema:#}"));
    Ok(())
}

fn list(all: &[Named], ui: &Ui) {
    let about = |schema: &serde_json::Value| {
        let title = schema.get("title").and_then(|it| it.as_str()).unwrap_or_default();
        title.trim_start_matches("Towpath: ").to_owned()
    };
    if ui.json {
        for (file, schema) in all {
            ui.result_json(&serde_json::json!({
                "name": short(file), "file": file, "describes": about(schema),
            }));
        }
        return;
    }
    let row = |(file, schema): &Named| {
        vec![(Tone::Strong, short(file).to_owned()), (Tone::Plain, about(schema))]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    ui.table(&rows);
}

fn write_all(all: &[Named], dir: &Path, ui: &Ui) -> Result<(), Failure> {
    let failed = |path: &Path, error: &std::io::Error| {
        Failure::new(Kind::Error, format!("writing {}: {error}", path.display()))
    };
    fs::create_dir_all(dir).map_err(|error| failed(dir, &error))?;
    for (file, schema) in all {
        let path = dir.join(file);
        fs::write(&path, format!("{schema:#}\n")).map_err(|error| failed(&path, &error))?;
        if !ui.json {
            ui.result(path.display());
        }
    }
    Ok(())
}
