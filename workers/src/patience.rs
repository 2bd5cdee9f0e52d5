//! Which failures of a kept message or payload time will mend, and which are its own.

/// After so many attempts, input that the database does not take is `failed`.
pub(crate) const TRIES: i16 = 3;

/// True for what time mends: no database, a deadlock, a full disk. False for what this input does wrong each time.
pub(crate) fn is_passing(error: &anyhow::Error) -> bool {
    if let Some(error) = error.downcast_ref::<actions::Error>() {
        return match error {
            actions::Error::Store(error) => is_passing_in_store(error),
            actions::Error::Invalid(_)
            | actions::Error::Conflict(_)
            | actions::Error::Forbidden(_)
            | actions::Error::NotFound => false,
            _ => true,
        };
    }
    if let Some(error) = error.downcast_ref::<store::Error>() {
        return is_passing_in_store(error);
    }
    error.downcast_ref::<queue::CompleteError>().is_some()
}

fn is_passing_in_store(error: &store::Error) -> bool {
    match error {
        store::Error::Constraint { .. } | store::Error::Corrupt(_) | store::Error::NotFound => false,
        error => !error.is_refused_data(),
    }
}
