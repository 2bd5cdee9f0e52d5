//! ASVS 5.0, 11.2.2: what passwords are hashed with can be exchanged, and follows at the next login.

use actions::access::Keys;
use actions::auth::{LoggedIn, Login, Origin, login};
use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};

const PASSWORD: &str = "correct horse battery";

#[tokio::test]
async fn a_login_makes_a_hash_of_other_parameters_anew() {
    let test_db = testkit::database().await;
    let organization = testkit::organization(&test_db, "acme").await;
    let (db, person) = (&test_db.db, organization.agent.user_id().unwrap());
    let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 1, 1, None).unwrap());
    let old = weak.hash_password(PASSWORD.as_bytes()).unwrap().to_string();
    let mut tx = db.begin(organization.id).await.unwrap();
    store::users::set_password_hash(&mut tx, person, &old).await.unwrap();
    tx.commit().await.unwrap();
    let keys = Keys::new(b"a secret of the tests, 32 bytes long");
    let tries = async |password: &str| {
        let email = "agent@acme.example".to_owned();
        let attempt = Login { email, password: password.into(), organization: None };
        let answer = login(db, &keys, &attempt, &Origin::default()).await;
        let mut tx = db.begin(organization.id).await.unwrap();
        let hash = store::users::password_hash(&mut tx, person).await.unwrap().unwrap();
        assert!(store::users::former_passwords(&mut tx, person).await.unwrap().is_empty());
        (answer.is_ok_and(|answer| matches!(answer, LoggedIn::In(_))), hash)
    };
    assert_eq!(tries("a wrong one, of course").await, (false, old.clone()));
    let (is_in, new) = tries(PASSWORD).await;
    assert!(is_in && new != old && new.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{new}");
    assert_eq!(tries(PASSWORD).await, (true, new), "once is enough");
    // Two at once: that the other one makes it anew ends neither.
    let mut tx = db.begin(organization.id).await.unwrap();
    store::users::renew_password_hash(&mut tx, person, &old).await.unwrap();
    tx.commit().await.unwrap();
    let (one, other) = tokio::join!(tries(PASSWORD), tries(PASSWORD));
    assert!(one.0 && other.0, "{one:?} {other:?}");
}
