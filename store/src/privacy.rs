//! What is held about one person: all of it together, and what is left when they are forgotten.

use crate::{Result, Tx};
use domain::{TicketId, UserId};
use serde_json::Value;
use uuid::Uuid;

/// Everything about a person, as it stands in the rows.
#[derive(Debug)]
pub struct Held {
    pub profile: Value,
    pub teams: Value,
    pub tickets: Value,
    pub comments: Value,
    pub attachments: Value,
    /// Sent to their address.
    pub messages: Value,
    /// Mails from them and to them, as they are known by their Message-IDs.
    pub mails: Value,
    pub logins: Value,
    pub api_tokens: Value,
    /// Who they are at identity providers.
    pub identities: Value,
    /// Entries of the audit log about them, and of what they did.
    pub audit: Value,
}

/// `None`: there is nobody with this id. Hashes and the insides of other people's notes are left out.
pub async fn held(tx: &mut Tx, person: UserId) -> Result<Option<Held>> {
    let (organization, id) = (tx.organization(), person.0);
    let row = sqlx::query!(
        r#"select (to_jsonb(u) - array['password_hash', 'organization_id'])
             || jsonb_build_object('contact_ways', (select coalesce(jsonb_agg(to_jsonb(w) - 'organization_id' order by w.place), '[]')
                                                      from contact_ways w where w.user_id = u.id)) as "profile!",
             (select coalesce(jsonb_agg(jsonb_build_object('team', t.name, 'since', m.created_at) order by m.created_at), '[]')
                from team_members m join teams t on t.id = m.team_id where m.user_id = u.id) as "teams!",
             (select coalesce(jsonb_agg(to_jsonb(t) - array['search', 'organization_id'] order by t.created_at), '[]')
                from tickets t where t.organization_id = $2 and t.requester_id = u.id) as "tickets!",
             (select coalesce(jsonb_agg(to_jsonb(c) - 'organization_id' order by c.created_at), '[]')
                from ticket_comments c where c.author_id = u.id) as "comments!",
             (select coalesce(jsonb_agg(to_jsonb(a) - 'organization_id' order by a.created_at), '[]')
                from attachments a
               where a.created_by = u.id
                  or a.ticket_id in (select t.id from tickets t where t.organization_id = $2 and t.requester_id = u.id)) as "attachments!",
             (select coalesce(jsonb_agg(jsonb_build_object('id', d.id, 'kind', d.message_kind, 'subject', d.subject, 'message', d.message,
                                                           'status', d.status, 'created_at', d.created_at, 'sent_at', d.sent_at) order by d.created_at), '[]')
                from deliveries d where d.channel = 'email' and d.recipient = u.email) as "messages!",
             (select coalesce(jsonb_agg(jsonb_build_object('message_id', m.message_id, 'direction', m.direction, 'ticket', m.ticket_id,
                                                           'at', m.created_at) order by m.created_at), '[]')
                from mail_messages m where m.address = u.email) as "mails!",
             (select coalesce(jsonb_agg(jsonb_build_object('at', s.created_at, 'address', s.ip, 'user_agent', s.user_agent) order by s.created_at), '[]')
                from sessions s where s.user_id = u.id) as "logins!",
             (select coalesce(jsonb_agg(jsonb_build_object('name', k.name, 'created_at', k.created_at, 'last_used_at', k.last_used_at) order by k.created_at), '[]')
                from api_tokens k where k.user_id = u.id) as "api_tokens!",
             (select coalesce(jsonb_agg(jsonb_build_object('provider', p.name, 'issuer', p.issuer, 'subject', i.subject, 'since', i.created_at,
                                                           'last_login_at', i.last_login_at) order by i.created_at), '[]')
                from external_identities i join identity_providers p on p.id = i.provider_id where i.user_id = u.id) as "identities!",
             (select coalesce(jsonb_agg(to_jsonb(e) - array['salt', 'erased_digest', 'organization_id'] order by e.seq), '[]')
                from audit_entries e
               where e.organization_id = $2 and (e.object_id = u.id or e.parent_id = u.id or e.actor_id = u.id or e.real_actor_id = u.id)) as "audit!"
           from users u where u.id = $1"#,
        id,
        organization.0,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Held {
        profile: row.profile,
        teams: row.teams,
        tickets: row.tickets,
        comments: row.comments,
        attachments: row.attachments,
        messages: row.messages,
        mails: row.mails,
        logins: row.logins,
        api_tokens: row.api_tokens,
        identities: row.identities,
        audit: row.audit,
    }))
}

/// Tickets in which somebody has a part: what may hold their words.
pub async fn tickets_of(tx: &mut Tx, person: UserId, email: &str) -> Result<Vec<TicketId>> {
    let organization = tx.organization();
    let ids = sqlx::query_scalar!(
        r#"select id as "id!" from tickets where organization_id = $1 and (requester_id = $2 or created_by = $2 or assignee_id = $2)
           union select ticket_id from ticket_comments where organization_id = $1 and author_id = $2
           union select ticket_id from ticket_watchers where organization_id = $1 and user_id = $2
           union select ticket_id from mail_messages where organization_id = $1 and address = $3"#,
        organization.0,
        person.0,
        email,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(ids.into_iter().map(Into::into).collect())
}

/// The words by which a person is known, as one regular expression of PostgreSQL that matches them as whole words.
pub fn pattern(words: &[&str]) -> String {
    let quoted = words.iter().map(|word| {
        word.chars().fold(String::new(), |mut quoted, c| {
            if !c.is_alphanumeric() {
                quoted.push('\\');
            }
            quoted.push(c);
            quoted
        })
    });
    format!("(?<![[:alnum:]])(?:{})(?![[:alnum:]])", quoted.collect::<Vec<_>>().join("|"))
}

/// What somebody is called afterwards.
pub const NOBODY: &str = "Anonymous";

pub fn address_of_nobody(person: UserId) -> String {
    format!("{}@anonymous.invalid", person.0.simple())
}

/// Takes away by what the person could be known, everywhere but in the audit log. `email` is their address until now, `pattern` their
/// words in texts.
pub async fn forget(
    tx: &mut Tx,
    person: UserId,
    email: &str,
    tickets: &[TicketId],
    pattern: &str,
) -> Result<()> {
    let (organization, id, now) = (tx.organization().0, person.0, tx.now());
    let (nobody, address) = (NOBODY, address_of_nobody(person));
    let tickets: Vec<Uuid> = tickets.iter().map(|ticket| ticket.0).collect();
    sqlx::query!(
        "update users set name = $2, email = $3, phone = null, time_zone = null, locale = null, password_hash = null,
                          is_active = false, was_active = case when deleted_at is not null then false end, department_id = null, manager_id = null, last_login_at = null, external_id = null,
                          away_from = null, away_until = null, away_note = null, substitute_id = null, updated_at = $4
          where id = $1",
        id, nobody, address, now
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!("delete from contact_ways where user_id = $1", id).execute(&mut **tx).await?;
    sqlx::query!("delete from sessions where user_id = $1", id).execute(&mut **tx).await?;
    sqlx::query!("delete from external_identities where user_id = $1", id).execute(&mut **tx).await?;
    sqlx::query!(
        "update api_tokens set revoked_at = coalesce(revoked_at, $2), name = $3 where user_id = $1",
        id,
        now,
        nobody
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update tickets set title = left(regexp_replace(title, $2, $3, 'gi'), 500), description = regexp_replace(description, $2, $3, 'gi'),
                            resolution = regexp_replace(resolution, $2, $3, 'gi'), version = version + 1, updated_at = $4
          where id = any($1) and (title ~* $2 or description ~* $2 or resolution ~* $2)",
        &tickets, pattern, nobody, now
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update ticket_comments set body = regexp_replace(body, $2, $3, 'gi'), body_html = regexp_replace(body_html, $2, $3, 'gi')
          where ticket_id = any($1) and (body ~* $2 or body_html ~* $2)",
        &tickets, pattern, nobody
    )
    .execute(&mut **tx)
    .await?;
    // Raw mails of theirs are emptied; the rows stay, so that a repetition is known for one.
    sqlx::query!(
        "update inbox set raw = '', headers = '{}' where id in (
           select inbox_id from mail_messages where organization_id = $1 and address = $2 and direction = 'in')",
        organization, email
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update mail_messages set address = $3 where organization_id = $1 and address = $2",
        organization,
        email,
        address
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update mail_receipts set address = $3 where organization_id = $1 and address = $2",
        organization,
        email,
        address
    )
    .execute(&mut **tx)
    .await?;
    // What waits to be sent to them is not sent.
    sqlx::query!(
        "update deliveries set recipient = $3, message = '{}', subject = null, last_response = null, last_error = null,
                               status = case when status = 'pending' then 'given_up' else status end, updated_at = $4
          where organization_id = $1 and channel = 'email' and recipient = $2",
        organization, email, address, now
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update deliveries set message = regexp_replace(message::text, $2, $3, 'gi')::jsonb, subject = regexp_replace(subject, $2, $3, 'gi')
          where ticket_id = any($1) and status <> 'pending' and (message::text ~* $2 or subject ~* $2)",
        &tickets, pattern, nobody
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update report_schedules set recipients = array_replace(recipients, $2, $3) where organization_id = $1 and $2 = any(recipients)",
        organization, email, address
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update report_executions set recipients = array_replace(recipients, $2, $3) where organization_id = $1 and $2 = any(recipients)",
        organization, email, address
    )
    .execute(&mut **tx)
    .await?;
    // History and events may be changed by nobody but this.
    sqlx::query!("select audit.forget($1, $2, $3, $4)", id, &tickets, pattern, nobody)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Entries of the audit log whose values tell of the person: of their account, of their tickets where these name them, and security events that name
/// their address (a name can be a word that means something else there).
pub async fn entries_about(
    tx: &mut Tx,
    person: UserId,
    email: &str,
    tickets: &[TicketId],
    words: &str,
) -> Result<Vec<i64>> {
    let organization = tx.organization();
    let tickets: Vec<Uuid> = tickets.iter().map(|ticket| ticket.0).collect();
    let entries = sqlx::query_scalar!(
        "select seq from audit_entries
          where organization_id = $1 and changes is not null and noun <> 'audit'
            and (noun = 'users' and object_id = $2
                 or (object_id = any($3) or parent_id = any($3) or actor_id = $2) and changes::text ~* $4
                 or category = 'security' and changes::text ~* $5)
          order by seq",
        organization.0,
        person.0,
        &tickets,
        words,
        pattern(&[email]),
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(entries)
}
