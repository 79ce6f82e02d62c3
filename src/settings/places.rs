//! The places in the settings that need a token or a secret: forges, CIs, webhooks.

use std::path::Path;

use crate::controller::{Scheme, ServerAt};
use crate::drivers::ci::CiAt;
use crate::drivers::hosted::open::{HostedAt, Kind, TokenAt};
use crate::model::{BadProject, CiName, PROJECT_HINT, project_path};

use super::{
    Mistakes, RawCi, RawForge, RawGitLabHook, RawHook, RawServer, RawWebhook, SettingsError,
};

/// A CI that runs pipelines for stages.
pub(super) fn ci(name: &str, raw: RawCi, here: &Path, mistakes: &mut Mistakes) -> Option<CiAt> {
    let RawCi { kind, url, project, token_env, token_file } = raw;
    let key = |key: &str| format!("ci.{name}.{key}");
    let kind = mistakes.of(
        &key("kind"),
        match kind.as_str() {
            "gitlab" => Ok(Kind::GitLab),
            "github" => Ok(Kind::GitHub),
            other => {
                Err(format!("`{}` runs no pipelines: use gitlab or github", other.escape_debug()))
            }
        },
    );
    let project = mistakes.of(&key("project"), self::project(&project));
    let token = token(token_env, token_file, here)
        .and_then(|it| it.ok_or_else(|| "say token_env or token_file".to_owned()));
    let token = mistakes.of(&key("token_env"), token);
    let name = mistakes.of(&format!("ci.{name}"), CiName::parse(name));
    Some(CiAt { name: name?, kind: kind?, url, project: project?, token: token? })
}

/// Where to listen, and who may ring there.
pub(super) fn listener(
    server: Option<RawServer>,
    webhook: Option<RawWebhook>,
    here: &Path,
    mistakes: &mut Mistakes,
) -> Option<ServerAt> {
    let mut keys = Vec::new();
    if let Some(RawWebhook { gitlab, github, gitea, forgejo }) = webhook {
        if server.is_none() {
            let why = "say where to listen for it, e.g. [server] listen = \"127.0.0.1:8460\"";
            mistakes.of("webhook", Err::<(), _>(why));
        }
        if let Some(RawGitLabHook { token_env, token_file, signing_env, signing_file }) = gitlab {
            let plain = token(token_env, token_file, here);
            let signed = token(signing_env, signing_file, here);
            if let (Ok(None), Ok(None)) = (&plain, &signed) {
                let why = "say token_env or token_file, or signing_env or signing_file";
                mistakes.of("webhook.gitlab", Err::<(), _>(why));
            }
            for (scheme, at) in [(Scheme::GitLabToken, plain), (Scheme::GitLabSigned, signed)] {
                let at = mistakes.of("webhook.gitlab", at).flatten();
                keys.extend(at.map(|at| (scheme, at)));
            }
        }
        let others = [
            ("webhook.github", Scheme::GitHub, github),
            ("webhook.gitea", Scheme::Gitea, gitea),
            ("webhook.forgejo", Scheme::Forgejo, forgejo),
        ];
        for (key, scheme, hook) in others {
            let Some(RawHook { secret_env, secret_file }) = hook else { continue };
            let at = token(secret_env, secret_file, here)
                .and_then(|it| it.ok_or_else(|| "say secret_env or secret_file".to_owned()));
            keys.extend(mistakes.of(key, at).map(|at| (scheme, at)));
        }
    }
    let listen = server?.listen.parse().map_err(|_| "use IP:PORT, e.g. 127.0.0.1:8460");
    Some(ServerAt { listen: mistakes.of("server.listen", listen)?, keys })
}

/// Longest label.
const LABEL_MAX: usize = 60;

/// The forge that the settings describe; nothing if merge requests live in the repository itself.
pub(super) fn hosted(
    raw: RawForge,
    here: &Path,
    value: &dyn Fn(&'static str, String) -> SettingsError,
) -> Result<Option<HostedAt>, SettingsError> {
    let RawForge {
        kind,
        url,
        project,
        token_env,
        token_file,
        approver_token_env,
        approver_token_file,
        label,
        checks,
        deployments,
    } = raw;
    let kind = match kind.as_str() {
        "local" => return Ok(None),
        "gitlab" => Kind::GitLab,
        "github" => Kind::GitHub,
        "gitea" => Kind::Gitea,
        "forgejo" => Kind::Forgejo,
        other => {
            let why = format!(
                "`{}` is no forge: use gitlab, github, gitea, forgejo or local",
                other.escape_debug()
            );
            return Err(value("forge.kind", why));
        }
    };
    let url = url.ok_or_else(|| {
        value("forge.url", "say where it is, e.g. https://gitlab.example.com".to_owned())
    })?;
    let project = project.unwrap_or_default();
    let project = self::project(&project).map_err(|why| value("forge.project", why))?;
    let token = token(token_env, token_file, here).map_err(|why| value("forge.token_env", why))?;
    let token = token.ok_or_else(|| {
        value(
            "forge.token_env",
            "name the variable that holds the token, or say token_file".to_owned(),
        )
    })?;
    let approver = token_of_second(approver_token_env, approver_token_file, here, value)?;
    if label.is_empty()
        || label.len() > LABEL_MAX
        || label.contains(|c: char| c == ',' || c.is_control())
    {
        return Err(value("forge.label", "use 1 to 60 characters without a comma".to_owned()));
    }
    if deployments && matches!(kind, Kind::Gitea | Kind::Forgejo) {
        let why = "Gitea and Forgejo have no page of environments: leave this key out".to_owned();
        return Err(value("forge.deployments", why));
    }
    Ok(Some(HostedAt { kind, url, project, token, approver, label, checks, deployments }))
}

/// The path of a project, without slashes around it.
fn project(text: &str) -> Result<String, String> {
    match project_path(text) {
        Ok(path) => Ok(path.to_owned()),
        Err(BadProject::Empty) => Err("say which project, e.g. group/config".to_owned()),
        Err(why) => Err(format!("{why}: {PROJECT_HINT}")),
    }
}

fn token_of_second(
    variable: Option<String>,
    file: Option<String>,
    here: &Path,
    value: &dyn Fn(&'static str, String) -> SettingsError,
) -> Result<Option<TokenAt>, SettingsError> {
    token(variable, file, here).map_err(|why| value("forge.approver_token_env", why))
}

/// Where a token is: in a variable or a file, not in both.
fn token(
    variable: Option<String>,
    file: Option<String>,
    here: &Path,
) -> Result<Option<TokenAt>, String> {
    match (variable, file) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err("name a variable or a file, not both".to_owned()),
        (None, Some(file)) => Ok(Some(TokenAt::File(here.join(file)))),
        (Some(name), None) => {
            let fine = !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
            // Not quoted: somebody may have put the token itself here.
            let why = "this is the name of a variable (A-Z, 0-9, _), not the token itself";
            if fine { Ok(Some(TokenAt::Variable(name))) } else { Err(why.to_owned()) }
        }
    }
}
