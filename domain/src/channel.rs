//! Notification channels: which kinds there are and what each must be configured with.

use crate::EmailAddress;
use crate::words::words;
use serde_json::{Map, Value, json};
use std::fmt;

words! {
    ChannelKind ("channel kind") {
        Slack => "slack",
        Teams => "teams",
        Email => "email",
        Sms => "sms",
        Webhook => "webhook",
        Mattermost => "mattermost",
        Discord => "discord",
    }
}

/// What is wrong with one field of a configuration or of conditions; `pointer` (RFC 6901) starts at the object itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidField {
    pub pointer: String,
    pub detail: String,
}

impl InvalidField {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        InvalidField { pointer: pointer.into(), detail: detail.into() }
    }
}

/// The configuration of a channel. Its secrets (webhook addresses are secrets too: who has one can post) are never
/// printed by `Debug` and never leave through [`ChannelConfig::masked`].
#[derive(Clone, PartialEq, Eq)]
pub enum ChannelConfig {
    SlackWebhook {
        webhook_url: String,
    },
    /// `api_url`: base address of a Slack-compatible server, for example `https://slack.com/api`.
    SlackBot {
        bot_token: String,
        channel: String,
        api_url: Option<String>,
    },
    Teams {
        webhook_url: String,
    },
    Email {
        to: Vec<String>,
    },
}

/// Stands for a secret that is kept; sent back in an update it leaves the secret as it is.
pub const MASK: &str = "********";

const SECRETS: [&str; 2] = ["webhook_url", "bot_token"];
/// An address that nobody has (RFC 6761, 6.4), and a token that nobody gives out: what stands for a secret that lies sealed. A program that
/// knows nothing of sealing reads it as one, reaches nobody, and tries again later.
pub const STAND_INS: [&str; 2] = ["https://sealed.invalid/", "sealed"];

impl ChannelConfig {
    pub fn kind(&self) -> ChannelKind {
        match self {
            ChannelConfig::SlackWebhook { .. } | ChannelConfig::SlackBot { .. } => ChannelKind::Slack,
            ChannelConfig::Teams { .. } => ChannelKind::Teams,
            ChannelConfig::Email { .. } => ChannelKind::Email,
        }
    }

    pub fn parse(kind: ChannelKind, value: &Value) -> Result<Self, Vec<InvalidField>> {
        let Some(object) = value.as_object() else {
            return Err(vec![InvalidField::new("", "expected an object")]);
        };
        let mut fields = Fields { object, known: Vec::new(), errors: Vec::new() };
        let config = match kind {
            ChannelKind::Slack if object.contains_key("bot_token") => ChannelConfig::SlackBot {
                bot_token: fields.text("bot_token"),
                channel: fields.text("channel"),
                api_url: fields.has("api_url").then(|| fields.http_url("api_url")),
            },
            ChannelKind::Slack if !object.contains_key("webhook_url") => {
                return Err(vec![InvalidField::new(
                    "",
                    "a slack channel needs either webhook_url, or bot_token and channel",
                )]);
            }
            ChannelKind::Slack => ChannelConfig::SlackWebhook { webhook_url: fields.http_url("webhook_url") },
            ChannelKind::Teams => ChannelConfig::Teams { webhook_url: fields.http_url("webhook_url") },
            ChannelKind::Email => ChannelConfig::Email { to: fields.addresses("to") },
            other => {
                return Err(vec![InvalidField::new(
                    "",
                    format!("{} channels cannot be used yet: choose slack, teams or email", other.as_str()),
                )]);
            }
        };
        fields.refuse_unknown();
        if fields.errors.is_empty() { Ok(config) } else { Err(fields.errors) }
    }

    /// As it is stored: with its secrets.
    pub fn to_value(&self) -> Value {
        match self {
            ChannelConfig::SlackWebhook { webhook_url } | ChannelConfig::Teams { webhook_url } => {
                json!({ "webhook_url": webhook_url })
            }
            ChannelConfig::SlackBot { bot_token, channel, api_url: None } => {
                json!({ "bot_token": bot_token, "channel": channel })
            }
            ChannelConfig::SlackBot { bot_token, channel, api_url: Some(api_url) } => {
                json!({ "bot_token": bot_token, "channel": channel, "api_url": api_url })
            }
            ChannelConfig::Email { to } => json!({ "to": to }),
        }
    }

    /// The one secret that a chat has; mail has none.
    pub fn secret(&self) -> Option<&str> {
        match self {
            ChannelConfig::SlackWebhook { webhook_url } | ChannelConfig::Teams { webhook_url } => {
                Some(webhook_url)
            }
            ChannelConfig::SlackBot { bot_token, .. } => Some(bot_token),
            ChannelConfig::Email { .. } => None,
        }
    }

    /// The same with another secret.
    #[must_use]
    pub fn with_secret(mut self, secret: String) -> Self {
        match &mut self {
            ChannelConfig::SlackWebhook { webhook_url } | ChannelConfig::Teams { webhook_url } => {
                *webhook_url = secret;
            }
            ChannelConfig::SlackBot { bot_token, .. } => *bot_token = secret,
            ChannelConfig::Email { .. } => {}
        }
        self
    }

    /// The same with what stands for its secret where that lies sealed elsewhere.
    #[must_use]
    pub fn without_secret(self) -> Self {
        let [url, token] = STAND_INS;
        let stands = if matches!(self, ChannelConfig::SlackBot { .. }) { token } else { url };
        self.with_secret(stands.to_owned())
    }

    /// Whether something stands for its secret.
    pub fn is_without_secret(&self) -> bool {
        self.secret().is_some_and(|secret| STAND_INS.contains(&secret))
    }

    /// The field of a configuration from outside that holds what stands for a secret. Nobody may say that: it would take the secret that is kept
    /// along to another server.
    pub fn names_stand_in(value: &Value) -> Option<&'static str> {
        let stands = |name: &&str| {
            value.get(*name).and_then(Value::as_str).is_some_and(|text| STAND_INS.contains(&text.trim()))
        };
        SECRETS.into_iter().find(stands)
    }

    /// As it may be shown: secrets replaced by [`MASK`].
    pub fn masked(&self) -> Value {
        let mut value = self.to_value();
        for secret in SECRETS {
            if let Some(field) = value.get_mut(secret) {
                *field = MASK.into();
            }
        }
        value
    }

    /// A configuration that was read masked and sent back changed: the masks are replaced by the secrets kept here. Not
    /// when it names another server: who may name one must not learn by it what is sent to this one. A mask that is left
    /// is refused by [`ChannelConfig::parse`].
    pub fn unmask(&self, mut value: Value) -> Value {
        let server =
            |config: &Value| config.get("api_url").and_then(Value::as_str).map(|url| url.trim().to_owned());
        let moved = server(&value) != server(&self.to_value());
        if let (false, Some(new), Some(kept)) = (moved, value.as_object_mut(), self.to_value().as_object()) {
            for (name, field) in new.iter_mut() {
                if let (true, Some(secret)) = (*field == MASK, kept.get(name)) {
                    *field = secret.clone();
                }
            }
        }
        value
    }
}

impl fmt::Debug for ChannelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind().as_str(), self.masked())
    }
}

/// Reads the fields of one object and collects what is wrong with them.
struct Fields<'a> {
    object: &'a Map<String, Value>,
    known: Vec<&'static str>,
    errors: Vec<InvalidField>,
}

impl Fields<'_> {
    fn has(&self, name: &str) -> bool {
        self.object.get(name).is_some_and(|value| !value.is_null())
    }

    fn fail(&mut self, name: &str, detail: impl Into<String>) {
        self.errors.push(InvalidField::new(format!("/{name}"), detail));
    }

    fn text(&mut self, name: &'static str) -> String {
        self.known.push(name);
        match self.object.get(name).and_then(Value::as_str).map(str::trim) {
            Some(MASK) => {
                self.fail(
                    name,
                    "is the mask of a stored secret, which is not sent to another server: give it again",
                );
                String::new()
            }
            Some(text) if !text.is_empty() && text.len() <= 2_000 && !text.contains(char::is_control) => {
                text.to_owned()
            }
            Some(_) => {
                self.fail(name, "must have between 1 and 2,000 characters and no control characters");
                String::new()
            }
            None => {
                self.fail(name, "is required and must be a text");
                String::new()
            }
        }
    }

    fn http_url(&mut self, name: &'static str) -> String {
        let errors = self.errors.len();
        let text = self.text(name);
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
        if self.errors.len() == errors
            && !host.is_some_and(|host| !host.is_empty() && !host.contains(['@', ' ']))
        {
            self.fail(name, "must be an http or https address without user name, like https://host/path");
        }
        text
    }

    fn addresses(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        let list: Vec<&Value> = match self.object.get(name) {
            Some(Value::Array(list)) => list.iter().collect(),
            Some(one @ Value::String(_)) => vec![one],
            _ => Vec::new(),
        };
        if list.is_empty() || list.len() > 100 {
            self.fail(name, "needs 1 to 100 e-mail addresses");
            return Vec::new();
        }
        let mut addresses: Vec<String> = Vec::new();
        for (index, value) in list.into_iter().enumerate() {
            match value.as_str().and_then(|text| EmailAddress::parse(text).ok()) {
                Some(address) => {
                    if !addresses.iter().any(|known| known == address.as_str()) {
                        addresses.push(address.into());
                    }
                }
                _ => self.fail(&format!("{name}/{index}"), "is not an e-mail address"),
            }
        }
        addresses
    }

    fn refuse_unknown(&mut self) {
        for name in self.object.keys() {
            if !self.known.contains(&name.as_str()) {
                self.errors
                    .push(InvalidField::new(format!("/{name}"), "is not a field of this kind of channel"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(kind: ChannelKind, value: Value) -> Vec<String> {
        ChannelConfig::parse(kind, &value).unwrap_err().into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn reads_what_it_writes() {
        for (kind, value) in [
            (ChannelKind::Slack, json!({"webhook_url": "https://hooks.slack.com/services/T/B/x"})),
            (ChannelKind::Slack, json!({"bot_token": "xoxb-1", "channel": "#ops"})),
            (
                ChannelKind::Slack,
                json!({"bot_token": "xoxb-1", "channel": "C1", "api_url": "http://chat.local/api"}),
            ),
            (ChannelKind::Teams, json!({"webhook_url": "https://prod.logic.azure.com/workflows/1?sig=2"})),
            (ChannelKind::Email, json!({"to": ["a@example.com", "b@example.com"]})),
        ] {
            assert_eq!(ChannelConfig::parse(kind, &value).unwrap().to_value(), value);
        }
    }

    #[test]
    fn refuses_with_the_field() {
        assert_eq!(errors(ChannelKind::Slack, json!({})), [""]);
        assert_eq!(errors(ChannelKind::Slack, json!({"bot_token": "x"})), ["/channel"]);
        assert_eq!(
            errors(ChannelKind::Slack, json!({"webhook_url": "ftp://x", "more": 1})),
            ["/webhook_url", "/more"]
        );
        assert_eq!(
            errors(ChannelKind::Teams, json!({"webhook_url": "https://user:pw@host/"})),
            ["/webhook_url"]
        );
        assert_eq!(errors(ChannelKind::Email, json!({"to": ["a@b", "nobody", "x y@z"]})), ["/to/1", "/to/2"]);
        assert_eq!(errors(ChannelKind::Sms, json!({"to": "1"})), [""]);
    }

    #[test]
    fn secrets_stay_inside() {
        let config = ChannelConfig::SlackBot {
            bot_token: "xoxb-secret".into(),
            channel: "#ops".into(),
            api_url: None,
        };
        assert!(!format!("{config:?}").contains("secret"));
        let shown = config.masked();
        assert_eq!(shown, json!({"bot_token": MASK, "channel": "#ops"}));
        assert_eq!(config.unmask(shown), config.to_value());
    }

    #[test]
    fn something_stands_for_a_sealed_secret() {
        for (kind, value, secret) in [
            (
                ChannelKind::Slack,
                json!({"webhook_url": "https://hooks.slack.com/services/T/B/x"}),
                "https://hooks.slack.com/services/T/B/x",
            ),
            (
                ChannelKind::Slack,
                json!({"bot_token": "xoxb-1", "channel": "C1", "api_url": "http://chat.local/api"}),
                "xoxb-1",
            ),
            (
                ChannelKind::Teams,
                json!({"webhook_url": "https://prod.logic.azure.com/workflows/1?sig=2"}),
                "https://prod.logic.azure.com/workflows/1?sig=2",
            ),
        ] {
            let config = ChannelConfig::parse(kind, &value).unwrap();
            assert_eq!((config.secret(), config.is_without_secret()), (Some(secret), false));
            assert_eq!(ChannelConfig::names_stand_in(&value), None);
            let bare = config.clone().without_secret();
            assert!(bare.is_without_secret() && !bare.to_value().to_string().contains(secret));
            assert_eq!(bare.masked(), config.masked());
            // It is stored, and read again.
            assert_eq!(ChannelConfig::parse(kind, &bare.to_value()).unwrap(), bare);
            assert!(ChannelConfig::names_stand_in(&bare.to_value()).is_some());
            assert_eq!(bare.with_secret(secret.to_owned()), config);
        }
        let mail = ChannelConfig::Email { to: vec!["a@acme.example".into()] };
        assert_eq!((mail.secret(), mail.clone().without_secret()), (None, mail.clone()));
    }

    #[test]
    fn a_secret_is_not_sent_to_another_server() {
        let bot = |api_url: Option<&str>| ChannelConfig::SlackBot {
            bot_token: "xoxb-secret".into(),
            channel: "#ops".into(),
            api_url: api_url.map(str::to_owned),
        };
        let (slack, own) = (bot(None), bot(Some("https://chat.acme.example/api")));
        let mine = json!({"bot_token": MASK, "channel": "#ops", "api_url": "https://mine.example"});
        for (config, sent) in [
            (&slack, mine.clone()),
            (&own, mine),
            (&own, slack.masked()),
            (&slack, json!({"webhook_url": MASK})),
        ] {
            let unmasked = config.unmask(sent.clone());
            assert_eq!(unmasked, sent);
            assert!(!errors(ChannelKind::Slack, unmasked).is_empty(), "{sent}");
        }
        let moved = own.unmask(slack.masked());
        assert_eq!(errors(ChannelKind::Slack, moved), ["/bot_token"]);
        assert_eq!(own.unmask(own.masked()), own.to_value());
    }
}
