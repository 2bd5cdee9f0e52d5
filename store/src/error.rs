//! What can go wrong in `store`. Constraint names are part of the interface: `Error::Constraint` carries the name,
//! and the layer that knows the user maps it to words.

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such row, or it belongs to another organization: the two cannot be told apart.
    #[error("not found")]
    NotFound,
    /// The row was changed by somebody else since it was read.
    #[error("changed by somebody else meanwhile")]
    Stale,
    #[error("violates {name}")]
    Constraint { name: String, source: sqlx::Error },
    #[error(transparent)]
    Database(sqlx::Error),
    #[error("blob storage: {0}")]
    Blob(#[from] std::io::Error),
    /// A row that this version of the program cannot understand.
    #[error("unreadable row: {0}")]
    Corrupt(String),
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl Error {
    /// The name of the violated constraint, if that is what went wrong.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Error::Constraint { name, .. } => Some(name),
            _ => None,
        }
    }

    /// True when the database could not be reached or had no free connection: worth answering 503, worth a retry.
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Error::Database(
                sqlx::Error::Io(_)
                    | sqlx::Error::PoolTimedOut
                    | sqlx::Error::PoolClosed
                    | sqlx::Error::Tls(_)
            )
        ) || matches!(self, Error::Database(sqlx::Error::Database(e)) if e.code().is_some_and(|c| c.starts_with("57P") || c.starts_with("08") || c == "53300"))
    }

    /// True when others were changing the same rows and the database undid this transaction (a deadlock, a lock that was
    /// not given in time): worth the same request again in a moment.
    pub fn is_contended(&self) -> bool {
        matches!(self, Error::Database(sqlx::Error::Database(e))
            if e.code().is_some_and(|c| ["40P01", "40001", "55P03"].contains(&&*c)))
    }

    /// True for what PostgreSQL does not take: data of a wrong form or range (class 22), too much of it (class 54).
    /// The same data will be refused again.
    pub fn is_refused_data(&self) -> bool {
        matches!(self, Error::Database(sqlx::Error::Database(error))
                 if error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("54")))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::RowNotFound => Error::NotFound,
            sqlx::Error::Database(db) => match db.constraint() {
                Some(name) => Error::Constraint { name: name.to_owned(), source: error },
                None => Error::Database(error),
            },
            _ => Error::Database(error),
        }
    }
}
