//! From the SMTP dialogue to tickets, comments and answers, on a real database and with real sockets.

mod desk;
mod intake;
mod passwords;
mod people;
mod pruning;
mod senders;
