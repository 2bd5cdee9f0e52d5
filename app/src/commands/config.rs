//! `relaydesk config check|example`

use crate::cli::ConfigCommand;
use crate::config::{Config, SETTINGS, Values, example};
use crate::say;

pub fn run(command: &ConfigCommand, values: &Values, config: &Config) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Example => say!("{}", example().trim_end()),
        ConfigCommand::Check => {
            for setting in SETTINGS {
                let value = values.get(setting.env);
                let shown = match (value.is_empty(), setting.secret) {
                    (true, _) => "(not set)",
                    (false, true) => "(set)",
                    (false, false) => value,
                };
                say!("{} = {shown}", setting.env);
            }
            if config.database_url.is_none() {
                say!("note: DATABASE_URL is needed by every command but demo and config");
            }
            if config.jwt_secret.is_empty() {
                say!("note: RELAYDESK_JWT_SECRET is needed by serve and api");
            }
            for name in unknown_names() {
                say!("note: {name} is set in the environment but is no setting");
            }
            say!("ok");
        }
    }
    Ok(())
}

/// Variables that look like ours but are none: most often a typing error.
pub fn unknown_names() -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("RELAYDESK_") && !SETTINGS.iter().any(|setting| setting.env == name))
        .collect()
}
