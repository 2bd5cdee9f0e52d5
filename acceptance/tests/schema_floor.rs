//! Story: a newer version has migrated the database. Programs of the version before go on, until a migration says that they cannot.

use sqlx::Connection;
use store::guard::{Unfit, unfit};

#[tokio::test]
async fn an_older_program_works_on_a_newer_schema_until_that_says_otherwise() {
    let database = testkit::database().await;
    let mut owner = database.owner().await;
    let known = store::MIGRATOR.iter().map(|migration| migration.version).max().unwrap();
    assert_eq!(unfit(&database.db).await.unwrap(), None);
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) values ($1, 'newer', true, '', 0)";
    sqlx::query(newer).bind(known + 1).execute(&mut owner).await.unwrap();
    assert_eq!(unfit(&database.db).await.unwrap(), None, "a schema that expanded serves both");
    let raise = "update schema_floor set version = $1";
    sqlx::query(raise).bind(known).execute(&mut owner).await.unwrap();
    assert_eq!(unfit(&database.db).await.unwrap(), None);
    sqlx::query(raise).bind(known + 1).execute(&mut owner).await.unwrap();
    let refused = unfit(&database.db).await.unwrap().unwrap();
    assert_eq!(refused, Unfit::OldProgram { floor: known + 1, known });
    assert!(refused.to_string().contains("run a newer version"), "{refused}");
    // The application cannot lower it, and an older `migrate` does not touch what it does not know.
    let app = database.db.pool();
    assert!(sqlx::query("update schema_floor set version = 0").execute(app).await.is_err());
    assert!(store::MIGRATOR.run(&mut owner).await.is_err());
    owner.close().await.unwrap();
}
