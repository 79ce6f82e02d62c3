//! `towpath recipes`: the recipes that are built in, to read and to copy.

use crate::config::builtin;
use crate::text::closest;

use super::{Failure, Kind, Tone, Ui};

/// Print a recipe that is built in, to read or to copy
///
/// Without a NAME it lists them. A file `recipes/NAME.yaml` in the config repo takes the place of
/// the built-in one of that name.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  towpath recipes omnibus-fleet > recipes/omnibus-fleet.yaml")]
pub struct Args {
    /// Which one
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Runs the verb.
pub(super) fn run(args: &Args, ui: &Ui) -> Result<u8, Failure> {
    let Args { name } = args;
    let Some(name) = name else {
        for it in builtin::ALL {
            if ui.json {
                ui.result_json(&serde_json::json!({ "name": it.name, "about": it.about }));
            } else {
                let name = ui.paint(Tone::Strong, format!("{:<14}", it.name));
                ui.result(format_args!("{name}  {}", it.about));
            }
        }
        return Ok(0);
    };
    let Some(found) = builtin::ALL.iter().find(|it| it.name == name) else {
        let names = builtin::ALL.map(|it| it.name);
        let error = format!("there is no built-in recipe `{}`", crate::text::visible(name));
        let hint = match closest(name, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", names.join(", ")),
        };
        return Err(Failure::new(Kind::Usage, error).hint(hint));
    };
    if ui.json {
        ui.result_json(
            &serde_json::json!({ "name": found.name, "about": found.about, "yaml": found.text }),
        );
    } else {
        ui.result(found.text.trim_end());
    }
    Ok(0)
}
