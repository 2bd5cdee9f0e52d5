use crate::{house, opened};
use actions::Error;
use actions::tickets::{
    NewComment, StoredAttachment, TicketPatch, add_watcher, attach_stored, comment, find, see, sees_internal,
    update,
};
use domain::permission::{self, Reach};
use domain::ticket::Source;
use store::blobs::Blobs;
use store::ticket_list::{TicketFilter, list, order};
use testkit::organization;

#[tokio::test]
async fn another_organization_finds_nothing() {
    let (db, acme) = house().await;
    let other = organization(&db, "other").await;
    let ticket = opened(&db, &acme.agent, "secret").await;
    let mut tx = db.db.begin(other.id).await.unwrap();
    for key in [ticket.id.to_string(), ticket.number.clone(), "nonsense".into()] {
        assert!(matches!(find(&mut tx, &other.admin, &key).await, Err(Error::NotFound)), "{key}");
    }
    let patch = TicketPatch { title: Some("mine".into()), ..TicketPatch::default() };
    assert!(matches!(update(&mut tx, &other.admin, ticket.id, patch).await, Err(Error::NotFound)));
    let public = NewComment::public("hi", Source::Api);
    assert!(matches!(comment(&mut tx, &other.admin, ticket.id, public).await, Err(Error::NotFound)));
    let all = list(
        &mut tx,
        &Reach::Everything,
        &TicketFilter::default(),
        &order(&[("created_at", true)]),
        None,
        10,
    )
    .await
    .unwrap();
    assert!(all.is_empty());
    let entries = &store::ticket_history::LIST.all(10);
    assert!(store::ticket_history::list(&mut tx, ticket.id, true, entries).await.unwrap().is_empty());
}

#[tokio::test]
async fn end_users_see_what_they_requested_or_watch() {
    let (db, acme) = house().await;
    let own = opened(&db, &acme.end_user, "own").await;
    let foreign = opened(&db, &acme.agent, "foreign").await;
    let user = acme.end_user.user_id().unwrap();
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let reach = permission::reach(&acme.end_user);
    let titles = async |tx: &mut store::Tx| -> Vec<String> {
        let found = list(tx, &reach, &TicketFilter::default(), &order(&[("created_at", true)]), None, 10)
            .await
            .unwrap();
        found.into_iter().map(|ticket| ticket.item.title).collect()
    };
    assert_eq!(titles(&mut tx).await, ["own"]);
    assert!(matches!(see(&mut tx, &acme.end_user, foreign.id).await, Err(Error::NotFound)));
    assert!(matches!(add_watcher(&mut tx, &acme.end_user, foreign.id, user).await, Err(Error::NotFound)));
    assert!(add_watcher(&mut tx, &acme.agent, foreign.id, user).await.unwrap());
    assert!(!add_watcher(&mut tx, &acme.agent, foreign.id, user).await.unwrap());
    assert_eq!(titles(&mut tx).await, ["foreign", "own"]);
    see(&mut tx, &acme.end_user, foreign.id).await.unwrap();
    see(&mut tx, &acme.end_user, own.id).await.unwrap();
}

#[tokio::test]
async fn internal_comments_and_their_files_stay_among_staff() {
    let (db, acme) = house().await;
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::new(dir.path());
    let id = opened(&db, &acme.end_user, "own").await.id;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let file = async |bytes: &[u8]| StoredAttachment {
        file_name: "../note.txt".into(),
        media_type: "text/plain; charset=utf-8".into(),
        content_id: None,
        stored: blobs.put(acme.id, bytes).await.unwrap(),
    };
    let note = comment(&mut tx, &acme.agent, id, NewComment::internal("note", Source::Api)).await.unwrap();
    comment(&mut tx, &acme.agent, id, NewComment::public("answer", Source::Api)).await.unwrap();
    let hidden = attach_stored(&mut tx, &acme.agent, id, Some(note), file(b"hidden").await).await.unwrap().id;
    let shown = attach_stored(&mut tx, &acme.end_user, id, None, file(b"shown").await).await.unwrap().id;
    let sneaked = attach_stored(&mut tx, &acme.end_user, id, Some(note), file(b"x").await).await;
    assert!(matches!(sneaked, Err(Error::Invalid(_))));

    let ticket = store::tickets::get(&mut tx, id).await.unwrap();
    let staff = sees_internal(&mut tx, &acme.agent, &ticket).await.unwrap();
    let guest = sees_internal(&mut tx, &acme.end_user, &ticket).await.unwrap();
    assert_eq!((staff, guest), (true, false));
    let bodies = async |tx: &mut store::Tx, internal| -> Vec<String> {
        let comments = store::ticket_comments::list(tx, id, internal, &store::ticket_comments::LIST.all(10))
            .await
            .unwrap();
        comments.into_iter().map(|comment| comment.item.body).collect()
    };
    assert_eq!(bodies(&mut tx, staff).await, ["note", "answer"]);
    assert_eq!(bodies(&mut tx, guest).await, ["answer"]);
    let files = store::attachments::list(&mut tx, id, guest).await.unwrap();
    assert_eq!(files.iter().map(|file| file.id).collect::<Vec<_>>(), [shown]);
    assert_eq!((files[0].file_name.as_str(), files[0].media_type.as_str()), ("note.txt", "text/plain"));
    assert_eq!(blobs.read(acme.id, &files[0].sha256).await.unwrap(), b"shown");
    let found = store::attachments::get(&mut tx, id, hidden, guest).await;
    assert!(matches!(found, Err(store::Error::NotFound)));
    store::attachments::get(&mut tx, id, hidden, staff).await.unwrap();
}

#[tokio::test]
async fn history_and_events_cannot_be_rewritten() {
    let (db, acme) = house().await;
    opened(&db, &acme.agent, "printer").await;
    for sql in [
        "update ticket_history set action = 'nothing'",
        "delete from ticket_history",
        "update events set kind = 'nothing'",
        "delete from events",
    ] {
        let mut tx = db.db.begin(acme.id).await.unwrap();
        let error = sqlx::query(sql).execute(&mut *tx).await.unwrap_err();
        assert!(error.to_string().contains("permission denied"), "{sql}: {error}");
    }
}
