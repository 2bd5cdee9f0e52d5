//! Logging in at an identity provider: what it says of a person, why that may not do, and what its groups mean.

use crate::{EmailAddress, Role, TeamId};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;

/// What a provider has proved about a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Names the person at this provider for good, unlike their address.
    pub subject: String,
    pub email: Option<EmailAddress>,
    /// `None`: the provider does not say.
    pub email_verified: Option<bool>,
    pub name: Option<String>,
    pub groups: BTreeSet<String>,
    /// When they showed there who they are. `None`: the provider does not say.
    pub proven_at: Option<DateTime<Utc>>,
}

impl Identity {
    /// The address, if it is theirs. What a provider calls unverified is never believed; of what it says nothing about, `assumed` decides.
    pub fn verified_email(&self, assumed: bool) -> Option<&EmailAddress> {
        self.email.as_ref().filter(|_| self.email_verified.unwrap_or(assumed))
    }
}

/// Why nobody is logged in. The words are part of the interface: a page is told them, and shows a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It took too long, was done already, or was begun in another browser.
    Expired,
    /// The person, or the provider, said no.
    Denied,
    /// The provider could not be reached, or did not answer as it should.
    ProviderFailed,
    /// What the provider sent proves nothing.
    InvalidToken,
    /// There is no verified address, and one is needed.
    EmailNotVerified,
    /// The address is of a domain that does not get in.
    DomainNotAllowed,
    /// There is nobody with this address here, and people are not made.
    NoAccount,
    /// There is somebody with this address, who is not to be found by it.
    AccountExists,
    /// Deactivated, locked, or no person.
    AccountClosed,
    Suspended,
    /// It would give what a provider cannot give: the administration of the installation.
    NotByProvider,
    /// The groups would take the last admin away.
    LastAdmin,
    /// The provider was to ask the person again, and says that it has not.
    NotAskedAgain,
    /// The provider was to ask the person again, and does not say when it asked.
    AuthTimeMissing,
}

impl Refusal {
    pub const ALL: [Refusal; 14] = [
        Refusal::Expired,
        Refusal::Denied,
        Refusal::ProviderFailed,
        Refusal::InvalidToken,
        Refusal::EmailNotVerified,
        Refusal::DomainNotAllowed,
        Refusal::NoAccount,
        Refusal::AccountExists,
        Refusal::AccountClosed,
        Refusal::Suspended,
        Refusal::NotByProvider,
        Refusal::LastAdmin,
        Refusal::NotAskedAgain,
        Refusal::AuthTimeMissing,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Expired => "expired",
            Refusal::Denied => "denied",
            Refusal::ProviderFailed => "provider_failed",
            Refusal::InvalidToken => "invalid_token",
            Refusal::EmailNotVerified => "email_not_verified",
            Refusal::DomainNotAllowed => "domain_not_allowed",
            Refusal::NoAccount => "no_account",
            Refusal::AccountExists => "account_exists",
            Refusal::AccountClosed => "account_closed",
            Refusal::Suspended => "suspended",
            Refusal::NotByProvider => "not_by_provider",
            Refusal::LastAdmin => "last_admin",
            Refusal::NotAskedAgain => "not_asked_again",
            Refusal::AuthTimeMissing => "auth_time_missing",
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What groups come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitled {
    pub role: Role,
    pub teams: BTreeSet<TeamId>,
}

/// The highest role of the groups that somebody is in, or `otherwise`; and the teams of those groups. Only staff is in teams.
pub fn entitled(
    roles: impl IntoIterator<Item = Role>,
    teams: impl IntoIterator<Item = TeamId>,
    otherwise: Role,
) -> Entitled {
    let rank = |role: &Role| Role::ALL.iter().position(|one| one == role);
    let role = roles.into_iter().min_by_key(rank).unwrap_or(otherwise);
    let teams = if role.is_staff() { teams.into_iter().collect() } else { BTreeSet::new() };
    Entitled { role, teams }
}

/// Where to go on after a login: a path of ours and nothing else, so that no link of ours leads elsewhere. Browsers take a backslash for a
/// slash and drop control characters, so there are none.
pub fn is_local_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && path.len() <= 500
        && path.bytes().all(|c| c.is_ascii_graphic() && c != b'\\' && c != b'#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_ours_are_local() {
        for path in
            ["/", "/?ticket=INC0000001", "/a/b?c=d&e=%2F%2Fevil.example", "/https://evil.example", "/a//b"]
        {
            assert!(is_local_path(path), "{path}");
        }
        let long = format!("/{}", "a".repeat(500));
        for path in [
            "",
            "a",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/a\r\nset-cookie: a=b",
            " /a",
            "/a b",
            "/a#sign_in=x",
            "/ä",
            &long,
        ] {
            assert!(!is_local_path(path), "{path:?}");
        }
    }

    #[test]
    fn the_highest_role_counts_and_only_staff_is_in_teams() {
        let team = TeamId::new();
        let of = |roles: &[Role]| entitled(roles.iter().copied(), [team], Role::EndUser);
        assert_eq!(of(&[Role::Agent, Role::Manager, Role::EndUser]).role, Role::Manager);
        assert_eq!(of(&[Role::Agent]).teams, BTreeSet::from([team]));
        assert_eq!(of(&[]), Entitled { role: Role::EndUser, teams: BTreeSet::new() });
    }

    #[test]
    fn an_address_must_be_verified_and_silence_is_for_the_operator_to_judge() {
        let said = |email_verified| Identity {
            subject: "1".into(),
            email: Some(EmailAddress::parse("ada@acme.example").unwrap()),
            email_verified,
            name: None,
            groups: BTreeSet::new(),
            proven_at: None,
        };
        for (verified, assumed, expected) in
            [(Some(true), false, true), (Some(false), true, false), (None, true, true), (None, false, false)]
        {
            assert_eq!(said(verified).verified_email(assumed).is_some(), expected, "{verified:?} {assumed}");
        }
    }
}
