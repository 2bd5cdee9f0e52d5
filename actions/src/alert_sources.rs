//! Setting up where alerts come from.

use crate::credentials::{hash_token, new_token};
use crate::{Error, FieldError, Result, check, events};
use domain::alert::{AlertSourceKind, Grouping, SeverityMap};
use domain::permission::{self, Permission};
use domain::{Actor, AlertSourceId, TeamId};
use secrecy::ExposeSecret;
use serde_json::json;
use store::Tx;
use store::alert_sources::AlertSource;

/// `None`: the default of the kind.
#[derive(Clone, Debug)]
pub struct NewAlertSource {
    pub kind: AlertSourceKind,
    pub name: String,
    pub team: Option<TeamId>,
    pub severity_map: Option<SeverityMap>,
    pub grouping: Option<Grouping>,
    pub auto_resolve: Option<bool>,
    pub reopen_within_seconds: Option<i32>,
    pub max_per_minute: Option<i32>,
}

impl NewAlertSource {
    pub fn new(kind: AlertSourceKind, name: impl Into<String>) -> Self {
        NewAlertSource {
            kind,
            name: name.into(),
            team: None,
            severity_map: None,
            grouping: None,
            auto_resolve: None,
            reopen_within_seconds: None,
            max_per_minute: None,
        }
    }
}

/// `None`: leave as it is.
#[derive(Clone, Debug, Default)]
pub struct AlertSourcePatch {
    pub name: Option<String>,
    pub team: Option<Option<TeamId>>,
    pub severity_map: Option<SeverityMap>,
    pub grouping: Option<Grouping>,
    pub auto_resolve: Option<bool>,
    pub reopen_within_seconds: Option<i32>,
    pub max_per_minute: Option<Option<i32>>,
    pub is_active: Option<bool>,
}

/// A source and its token, which is not kept and cannot be shown again.
#[derive(Clone, Debug)]
pub struct WithToken {
    pub source: AlertSource,
    pub token: String,
}

const TOKEN_PREFIX: &str = "rda_";

fn prefix(token: &str) -> String {
    token.chars().take(10).collect()
}

pub async fn create(tx: &mut Tx, actor: &Actor, new: NewAlertSource) -> Result<WithToken> {
    permission::check(actor, Permission::AlertSourcesManage)?;
    let token = new_token(TOKEN_PREFIX).expose_secret().to_owned();
    let mut source = AlertSource {
        id: AlertSourceId::new(),
        organization: actor.organization,
        kind: new.kind,
        name: new.name,
        token_prefix: prefix(&token),
        team: new.team,
        severity_map: new.severity_map.unwrap_or_default(),
        grouping: new.grouping.unwrap_or(Grouping::Group),
        auto_resolve: new.auto_resolve.unwrap_or(true),
        reopen_within_seconds: new.reopen_within_seconds.unwrap_or(0),
        max_per_minute: new.max_per_minute,
        is_active: true,
        version: 1,
        created_at: tx.now(),
        updated_at: tx.now(),
    };
    checked(&mut source)?;
    check::living_team(tx, "/team", source.team).await?;
    store::alert_sources::insert(tx, &source, &hash_token(&token)).await.map_err(words)?;
    events::record(
        tx,
        actor,
        "alert_source.created",
        None,
        json!({"alert_source": source.id, "name": source.name}),
    )
    .await?;
    Ok(WithToken { source, token })
}

/// `expected`: the version that the caller has seen (`If-Match`).
pub async fn update(
    tx: &mut Tx,
    actor: &Actor,
    id: AlertSourceId,
    expected: Option<i64>,
    patch: AlertSourcePatch,
) -> Result<AlertSource> {
    permission::check(actor, Permission::AlertSourcesManage)?;
    let mut source = store::alert_sources::get(tx, id).await?;
    if expected.is_some_and(|version| version != source.version) {
        return Err(Error::Stale);
    }
    if let Some(name) = patch.name {
        source.name = name;
    }
    if let Some(team) = patch.team {
        check::living_team(tx, "/team", team).await?;
        source.team = team;
    }
    source.severity_map = patch.severity_map.unwrap_or(source.severity_map);
    source.grouping = patch.grouping.unwrap_or(source.grouping);
    source.auto_resolve = patch.auto_resolve.unwrap_or(source.auto_resolve);
    source.reopen_within_seconds = patch.reopen_within_seconds.unwrap_or(source.reopen_within_seconds);
    source.max_per_minute = patch.max_per_minute.unwrap_or(source.max_per_minute);
    source.is_active = patch.is_active.unwrap_or(source.is_active);
    checked(&mut source)?;
    source.version = store::alert_sources::update(tx, &source).await.map_err(words)?;
    events::record(tx, actor, "alert_source.updated", None, json!({"alert_source": id, "name": source.name}))
        .await?;
    source.updated_at = tx.now();
    Ok(source)
}

/// A new token; the old one stops working when the transaction commits.
pub async fn rotate_token(tx: &mut Tx, actor: &Actor, id: AlertSourceId) -> Result<WithToken> {
    permission::check(actor, Permission::AlertSourcesManage)?;
    let token = new_token(TOKEN_PREFIX).expose_secret().to_owned();
    store::alert_sources::set_token(tx, id, &hash_token(&token), &prefix(&token)).await?;
    events::record(tx, actor, "alert_source.token_rotated", None, json!({"alert_source": id})).await?;
    Ok(WithToken { source: store::alert_sources::get(tx, id).await?, token })
}

pub async fn delete(tx: &mut Tx, actor: &Actor, id: AlertSourceId) -> Result<()> {
    permission::check(actor, Permission::AlertSourcesManage)?;
    store::alert_sources::delete(tx, id).await?;
    events::record(tx, actor, "alert_source.deleted", None, json!({"alert_source": id})).await?;
    Ok(())
}

fn checked(source: &mut AlertSource) -> Result<()> {
    let mut wrong = Vec::new();
    check::name_among(&mut wrong, &mut source.name);
    let mut field = |pointer: &str, detail: &str| {
        wrong.push(FieldError { pointer: pointer.into(), detail: detail.into() });
    };
    if !(0..=2_592_000).contains(&source.reopen_within_seconds) {
        field("/reopen_within_seconds", "must be between 0 and 2592000 (30 days)");
    }
    if source.max_per_minute.is_some_and(|max| !(1..=1_000_000).contains(&max)) {
        field("/max_per_minute", "must be between 1 and 1000000, or null for no limit");
    }
    if wrong.is_empty() { Ok(()) } else { Err(Error::Invalid(wrong)) }
}

/// Constraint names in the words of the user.
fn words(error: store::Error) -> Error {
    match error.constraint() {
        Some("alert_sources_name_key") => Error::conflict("there is an alert source of that name already"),
        Some("alert_sources_team_fkey") => Error::invalid("/team", "there is no such team"),
        _ => error.into(),
    }
}
