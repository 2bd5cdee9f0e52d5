//! What channels are told when something happens to a ticket: one headline per kind of event, in one layout per
//! destination (Slack, Teams, mail).

use crate::context::parts;
use crate::{Context, Error, MailWords, Templates};
use serde::Serialize;
use serde_json::Value;

/// A ticket and what happened to it, in words.
#[derive(Clone, Debug, Serialize)]
pub struct TicketEvent {
    /// The kind of the event, for example `incident.opened`; chooses the headline.
    pub event: String,
    pub number: String,
    pub title: String,
    pub status: String,
    pub priority: String,
    pub requester: Option<String>,
    pub assignee: Option<String>,
    pub team: Option<String>,
    /// Who did it.
    pub actor: Option<String>,
    /// What was written: the description, the comment, the resolution.
    pub text: Option<String>,
    /// `First response` or `Resolution`, for events of the SLA.
    pub sla_metric: Option<String>,
    /// When it was or is due.
    pub sla_due: Option<String>,
    /// Where the ticket can be seen.
    pub url: String,
}

impl TicketEvent {
    /// One line that says what happened.
    pub fn headline(&self, templates: &Templates) -> Result<String, Error> {
        Ok(templates.render_part(&Headline(self.clone()), self.part())?.trim().to_owned())
    }

    /// A Block Kit message, `{"text", "blocks"}`.
    pub fn slack(&self, templates: &Templates) -> Result<Value, Error> {
        templates.render_json(&self.laid_out(templates)?, "slack")
    }

    /// An Adaptive Card.
    pub fn teams(&self, templates: &Templates) -> Result<Value, Error> {
        templates.render_json(&self.laid_out(templates)?, "teams")
    }

    pub fn mail(&self, templates: &Templates) -> Result<MailWords, Error> {
        templates.render_mail(&Mail(self.laid_out(templates)?))
    }

    fn laid_out(&self, templates: &Templates) -> Result<Chat, Error> {
        Ok(Chat { headline: self.headline(templates)?, event: self.clone() })
    }

    fn part(&self) -> &'static str {
        match self.event.as_str() {
            "sla.warning" => "sla_warning",
            "sla.breached" => "sla_breached",
            event => match event.split_once('.').map(|(_, verb)| verb) {
                Some("opened") => "opened",
                Some("assigned") => "assigned",
                Some("commented") => "commented",
                Some("escalated") => "escalated",
                Some("resolved") => "resolved",
                Some("closed") => "closed",
                Some("reopened") => "reopened",
                Some("status_changed") => "status_changed",
                _ => "updated",
            },
        }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Headline(TicketEvent);

impl Context for Headline {
    const NAME: &'static str = "headline/ticket";
    const PARTS: &'static [(&'static str, &'static str)] = parts!(
        "headline/ticket": "opened", "updated", "assigned", "commented", "escalated", "resolved", "closed", "reopened",
        "status_changed", "sla_warning", "sla_breached"
    );
    fn samples() -> Vec<Self> {
        samples().into_iter().map(Headline).collect()
    }
}

/// The layouts for Slack and Teams.
#[derive(Clone, Debug, Serialize)]
pub struct Chat {
    headline: String,
    #[serde(flatten)]
    event: TicketEvent,
}

impl Context for Chat {
    const NAME: &'static str = "chat/event";
    const PARTS: &'static [(&'static str, &'static str)] = parts!("chat/event": "slack", "teams");
    fn samples() -> Vec<Self> {
        samples()
            .into_iter()
            .map(|event| Chat { headline: format!("{}: {}", event.number, event.title), event })
            .collect()
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Mail(Chat);

impl Context for Mail {
    const NAME: &'static str = "mail/event";
    const PARTS: &'static [(&'static str, &'static str)] = parts!("mail/event": "subject", "text", "html");
    fn samples() -> Vec<Self> {
        Chat::samples().into_iter().map(Mail).collect()
    }
}

/// "This channel works", for chat.
#[derive(Clone, Debug, Serialize)]
pub struct ChatTest {
    pub channel: String,
    pub organization: String,
}

impl Context for ChatTest {
    const NAME: &'static str = "chat/test";
    const PARTS: &'static [(&'static str, &'static str)] = parts!("chat/test": "slack", "teams");
    fn samples() -> Vec<Self> {
        vec![ChatTest { channel: "#ops \"<!channel>\"".into(), organization: "Example & Sons".into() }]
    }
}

/// "This channel works", for mail.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct MailTest(pub ChatTest);

impl Context for MailTest {
    const NAME: &'static str = "mail/test";
    const PARTS: &'static [(&'static str, &'static str)] = parts!("mail/test": "subject", "text", "html");
    fn samples() -> Vec<Self> {
        ChatTest::samples().into_iter().map(MailTest).collect()
    }
}

fn samples() -> Vec<TicketEvent> {
    let full = TicketEvent {
        event: "incident.opened".into(),
        number: "INC0000123".into(),
        title: "Printer <!channel> on \"fire\"".into(),
        status: "in progress".into(),
        priority: "critical".into(),
        requester: Some("Ada & Grace".into()),
        assignee: Some("<@U123>".into()),
        team: Some("Network".into()),
        actor: Some("Grace \\ Hopper".into()),
        text: Some("Line one\nline two\t<https://evil.example|click me> {{number}} \u{1}".into()),
        sla_metric: Some("Resolution".into()),
        sla_due: Some("2026-11-21 10:00 UTC".into()),
        url: "https://desk.example/?ticket=INC0000123&from=chat".into(),
    };
    let bare = TicketEvent {
        requester: None,
        assignee: None,
        team: None,
        actor: None,
        text: None,
        sla_metric: None,
        sla_due: None,
        ..full.clone()
    };
    vec![full, bare]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The limits of <https://docs.slack.dev/reference/block-kit/blocks> that a message of ours could hit.
    fn assert_slack_takes(message: &Value) {
        let length = |text: &Value| text.as_str().unwrap().encode_utf16().count();
        assert!((1..=4_000).contains(&length(&message["text"])));
        let blocks = message["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50);
        for block in blocks {
            let limit = if block["type"] == "header" { 150 } else { 3_000 };
            if let Some(text) = block.get("text") {
                assert!((1..=limit).contains(&length(&text["text"])), "{block}");
            }
            let parts = ["fields", "elements"].iter().filter_map(|name| block[*name].as_array()).flatten();
            for part in parts {
                assert!((1..=2_000).contains(&length(&part["text"])), "{part}");
            }
        }
        let written = message.to_string();
        // The only angle brackets are those of our own link.
        assert_eq!(written.matches('<').count(), written.matches("|Open ").count(), "{written}");
    }

    fn assert_teams_takes(card: &Value) {
        assert!(card.to_string().len() <= 28_000, "the limit of a Teams message is 28 KB");
        assert_eq!((&card["type"], &card["version"]), (&"AdaptiveCard".into(), &"1.4".into()));
        // Words of people stand only where Markdown is not read.
        for block in card["body"].as_array().unwrap() {
            assert_eq!(block["type"], "RichTextBlock");
        }
    }

    #[test]
    fn every_event_is_a_message_that_the_peers_take() {
        let templates = Templates::new();
        let events = domain::TICKET_VERBS
            .iter()
            .map(|verb| format!("incident.{verb}"))
            .chain(domain::SLA_EVENTS.map(String::from));
        for event in events {
            for sample in samples() {
                let message = TicketEvent { event: event.clone(), ..sample };
                assert_slack_takes(&message.slack(&templates).unwrap());
                assert_teams_takes(&message.teams(&templates).unwrap());
                assert!(message.mail(&templates).unwrap().subject.contains("INC0000123"));
            }
        }
    }

    #[test]
    fn words_of_people_stay_words() {
        let templates = Templates::new();
        let message = samples().remove(0).slack(&templates).unwrap();
        assert_eq!(
            message["blocks"][1]["text"]["text"],
            "Line one\nline two\t&lt;https://evil.example|click me&gt; {{number}} \u{1}"
        );
        let card = samples().remove(0).teams(&templates).unwrap();
        assert_eq!(
            card["body"][0]["inlines"][0]["text"],
            "INC0000123 opened: Printer <!channel> on \"fire\""
        );
    }

    proptest! {
        #[test]
        fn nothing_that_people_write_breaks_a_message(title in "\\PC{1,400}", text in any::<String>(), n in 1usize..400) {
            static TEMPLATES: std::sync::LazyLock<Templates> = std::sync::LazyLock::new(Templates::new);
            let templates = &*TEMPLATES;
            for text in [text.clone(), "&".repeat(n * 20), "\u{1F525}\"\\\n".repeat(n * 5), text.repeat(n)] {
                let message = TicketEvent { title: title.clone(), text: Some(text), team: Some(title.clone()), ..samples().remove(1) };
                assert_slack_takes(&message.slack(templates).unwrap());
                assert_teams_takes(&message.teams(templates).unwrap());
            }
        }
    }
}
