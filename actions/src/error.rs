//! Why a verb was not done. `api` turns these into problem documents, workers into job outcomes.

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("not found")]
    NotFound,
    /// The actor may see the thing but not do this to it.
    #[error("{0}")]
    Forbidden(String),
    /// The credentials presented are wrong, expired or revoked.
    #[error("{0}")]
    Unauthenticated(String),
    /// Too much at once: worth another try in a moment.
    #[error("{0}")]
    Busy(String),
    /// Too often by the same caller: not before so many seconds are over.
    #[error("{detail}")]
    TooMany { detail: String, seconds: u32 },
    /// The request contradicts the state of things: a move that the status does not allow, a name that is taken.
    #[error("{0}")]
    Conflict(String),
    /// `If-Match` did not match.
    #[error("changed by somebody else meanwhile")]
    Stale,
    /// One entry per wrong field.
    #[error("invalid input")]
    Invalid(Vec<FieldError>),
    #[error(transparent)]
    Store(store::Error),
    #[error(transparent)]
    Enqueue(#[from] queue::EnqueueError),
}

/// What is wrong with one field; `pointer` is an RFC 6901 pointer into the request body, for example `/title`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    pub pointer: String,
    pub detail: String,
}

impl Error {
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Error::Invalid(vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
    }

    pub fn conflict(detail: impl Into<String>) -> Self {
        Error::Conflict(detail.into())
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Error::Forbidden(detail.into())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NotFound => Error::NotFound,
            store::Error::Stale => Error::Stale,
            other => Error::Store(other),
        }
    }
}

impl From<domain::permission::Denied> for Error {
    fn from(denied: domain::permission::Denied) -> Self {
        Error::Forbidden(denied.to_string())
    }
}
