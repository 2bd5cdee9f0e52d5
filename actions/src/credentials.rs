//! Passwords and random secrets: made, hashed, compared.

use crate::{Error, Result};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prometheus::{IntCounter, register_int_counter};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;
use std::time::Duration;
use tokio::sync::Semaphore;

/// argon2id takes 19 MiB and tens of milliseconds of a core: no more at once than there are cores.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)));

/// Compared against when there is no such user, so that the answer takes as long as for a wrong password.
static NOBODY: LazyLock<String> = LazyLock::new(|| {
    let hash =
        Argon2::default().hash_password(b"a password that nobody has").expect("default parameters are valid");
    hash.to_string()
});

/// How many were made or compared, of right and wrong logins alike: what an answer costs, and whether it costs the same for everybody.
#[expect(clippy::expect_used, reason = "the name is registered once")]
static HASHED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "relaydesk_password_hashes_total",
        "Passwords that were hashed, to be kept or compared"
    )
    .expect("a metric that can be registered")
});

/// So many passwords has this process hashed.
pub fn hashed() -> u64 {
    HASHED.get()
}

/// Runs `work` on the blocking pool, after waiting for a turn.
async fn in_turn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let turn = tokio::time::timeout(Duration::from_secs(5), TURNS.acquire()).await;
    let _turn = match turn {
        Ok(Ok(permit)) => permit,
        _ => {
            return Err(Error::Busy("too many logins at once: try again in a moment".into()));
        }
    };
    HASHED.inc();
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Busy("hashing was interrupted: try again".into()))
}

/// A PHC string (argon2id, OWASP's first recommended parameters: 19 MiB, 2 passes). Refuses short passwords; `pointer`
/// names the field they came from. What else makes a password weak is for [`crate::passwords`] to say.
pub async fn hash_password(password: &SecretString, pointer: &str) -> Result<String> {
    domain::password::check_shape(password.expose_secret())
        .map_err(|weak| Error::invalid(pointer, weak.to_string()))?;
    hash(password).await
}

async fn hash(password: &SecretString) -> Result<String> {
    let password = password.clone();
    let hashed = in_turn(move || {
        Argon2::default().hash_password(password.expose_secret().as_bytes()).map(|hash| hash.to_string())
    })
    .await?;
    hashed.map_err(|error| Error::Busy(format!("the password could not be hashed: {error}")))
}

/// How the hashes begin that are made now: algorithm, version, cost.
fn beginning() -> String {
    let cost = Params::default();
    format!(
        "${}$v={}$m={},t={},p={}$",
        Algorithm::default().as_str(),
        u32::from(Version::default()),
        cost.m_cost(),
        cost.t_cost(),
        cost.p_cost()
    )
}

/// Of a password that is right: its hash anew, if that was made in another way than today's (ASVS 5.0, 11.2.2). Nobody's login fails by it.
pub async fn renewed(known: Option<&str>, password: &SecretString) -> Option<String> {
    match known {
        Some(known) if !known.starts_with(&beginning()) => hash(password).await.ok(),
        _ => None,
    }
}

/// Takes the same time whether there is a hash or not.
pub async fn verify_password(hash: Option<String>, password: &SecretString) -> Result<bool> {
    let password = password.clone();
    in_turn(move || {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.clone());
        let matches = PasswordHash::new(&hash).is_ok_and(|hash| {
            Argon2::default().verify_password(password.expose_secret().as_bytes(), &hash).is_ok()
        });
        known && matches
    })
    .await
}

/// Of a token, behind its prefix.
pub const TOKEN_CHARACTERS: usize = 43;

/// 256 random bits, URL-safe, behind a prefix that secret scanners and people recognise: `rd_…`.
pub fn new_token(prefix: &str) -> SecretString {
    let bytes: [u8; 32] = rand::random();
    SecretString::from(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// What is stored of a random token, and what is looked up by. Random tokens need no slow hash.
pub fn hash_token(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_matches_its_hash_only() {
        let password = SecretString::from("correct horse battery");
        let hash = hash_password(&password, "/password").await.unwrap();
        assert!(hash.starts_with("$argon2id$") && hash.starts_with(&beginning()), "{hash}");
        assert!(verify_password(Some(hash.clone()), &password).await.unwrap());
        assert!(!verify_password(Some(hash), &SecretString::from("correct horse batterx")).await.unwrap());
        assert!(!verify_password(None, &SecretString::from("a password that nobody has")).await.unwrap());
        assert!(!verify_password(Some("no PHC string".into()), &password).await.unwrap());
    }

    #[tokio::test]
    async fn a_hash_of_other_parameters_is_made_anew() {
        // A short one of old times, too: what makes a password acceptable is asked when it is set.
        let password = SecretString::from("short");
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 1, 1, None).unwrap());
        let old = weak.hash_password(b"short").unwrap().to_string();
        assert!(verify_password(Some(old.clone()), &password).await.unwrap());
        let new = renewed(Some(&old), &password).await.unwrap();
        assert!(new.starts_with(&beginning()), "{new}");
        assert!(verify_password(Some(new.clone()), &password).await.unwrap());
        assert_eq!(renewed(Some(&new), &password).await, None);
        assert_eq!(renewed(None, &password).await, None);
    }

    #[tokio::test]
    async fn short_and_blank_passwords_are_refused_with_a_pointer() {
        for wrong in ["short", "            ", "\u{200b} \u{200b} \u{200b} \u{200b} \u{200b} \u{200b}"] {
            let error = hash_password(&SecretString::from(wrong), "/new_password").await.unwrap_err();
            assert!(
                matches!(error, Error::Invalid(fields) if fields[0].pointer == "/new_password"),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn tokens_differ_and_their_hash_is_hex() {
        let (a, b) = (new_token("rd_"), new_token("rd_"));
        assert_ne!(a.expose_secret(), b.expose_secret());
        assert_eq!(a.expose_secret().len(), 3 + 43);
        assert_eq!(hash_token(a.expose_secret()).len(), 64);
    }
}
