//! The settings as people read them.

use super::SETTINGS;

/// The settings as `--help` shows them.
pub fn help() -> String {
    let mut text =
        String::from("Settings (environment; in relaydesk.toml in lower case without RELAYDESK_):\n");
    for setting in SETTINGS {
        let default =
            setting.default.filter(|d| !d.is_empty()).map(|d| format!(" [default: {d}]")).unwrap_or_default();
        text += &format!("  {}\n      {} ({}){}\n", setting.env, setting.help, setting.expects, default);
    }
    text
}

/// `relaydesk.example.toml`, as `script/update` writes it.
pub fn example() -> String {
    let mut text = String::from(
        "# Relaydesk configuration. Copy to relaydesk.toml; the environment (RELAYDESK_…) wins over this file.\n\
         # Written by script/update from app/src/config.rs.\n",
    );
    for setting in SETTINGS {
        text += &format!("\n# {}\n# {}; environment: {}\n", setting.help, setting.expects, setting.env);
        text += &format!("# {} = {:?}\n", setting.key(), setting.default.unwrap_or_default());
    }
    text
}
