//! H18: whoever tries to log in costs the same, known or not. Alone in its process, because what is hashed there is counted.

use actions::access::Keys;
use actions::auth::{Login, Origin, login};
use actions::credentials::{hash_password, hashed};

#[tokio::test]
async fn every_failed_login_hashes_once() {
    let test_db = testkit::database().await;
    let organization = testkit::organization(&test_db, "acme").await;
    let db = &test_db.db;
    let password = "correct horse battery";
    let hash = hash_password(&password.into(), "/password").await.unwrap();
    let mut tx = db.begin(organization.id).await.unwrap();
    for person in [&organization.admin, &organization.end_user] {
        store::users::set_password_hash(&mut tx, person.user_id().unwrap(), &hash).await.unwrap();
    }
    store::users::set_locked(&mut tx, organization.end_user.user_id().unwrap(), true).await.unwrap();
    tx.commit().await.unwrap();
    let keys = Keys::new(b"a secret of the tests, 32 bytes long");
    let mut told = Vec::new();
    for (email, slug) in [
        ("admin@acme.example", None),
        ("admin@acme.example", Some("elsewhere")),
        ("agent@acme.example", None),    // has no password
        ("end-user@acme.example", None), // is locked
        ("nobody@acme.example", None),
        ("not an address", None),
    ] {
        let before = hashed();
        let attempt = Login {
            email: email.into(),
            password: "a wrong one, of course".into(),
            organization: slug.map(str::to_owned),
        };
        told.push(login(db, &keys, &attempt, &Origin::default()).await.unwrap_err().to_string());
        assert_eq!(hashed() - before, 1, "{email}");
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
}
