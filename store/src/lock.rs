//! The lock that every change of an object begins with.

/// Makes `lock` of a table: like its `get`, and nobody else changes the row until the end of the transaction.
macro_rules! lock {
    ($id:ty => $row:ty, $statement:literal) => {
        /// Like [`get`], and nobody else changes it until the end of the transaction.
        pub async fn lock(tx: &mut $crate::Tx, id: $id) -> $crate::Result<$row> {
            sqlx::query!($statement, id.0).fetch_optional(&mut **tx).await?.ok_or($crate::Error::NotFound)?;
            get(tx, id).await
        }
    };
}

pub(crate) use lock;
