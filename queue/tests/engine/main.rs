//! The job engine against a real Postgres, as the application role.

mod admin;
mod enqueue;
mod lease;
mod outcomes;
mod outage;
mod schedules;
mod scripted;
