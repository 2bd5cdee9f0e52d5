//! The job engine against a real Postgres, as the application role.

mod abandoned;
mod admin;
mod along;
mod batches;
mod bell;
mod conformance;
mod dead_letters;
mod enqueue;
mod fairness;
mod later;
mod lease;
mod limits;
mod messages;
mod open_transactions;
mod operator;
mod outage;
mod outcomes;
mod payloads;
mod rabbitmq;
mod rabbitmq_faults;
mod schedules;
mod scripted;
mod steps;
mod testing;
mod unique;
mod yard;
