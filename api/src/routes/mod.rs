//! One file per noun: parameters, bodies, responses, documentation, handlers.

pub mod permissions;
