//! From the SMTP dialogue to tickets, comments and answers, on a real database and with real sockets.

mod desk;
mod intake;
mod people;
mod pruning;
