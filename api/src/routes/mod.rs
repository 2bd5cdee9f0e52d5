//! One file per noun: parameters, bodies, responses, documentation, handlers.

pub mod incidents;
pub mod permissions;
pub mod priority_matrix;
