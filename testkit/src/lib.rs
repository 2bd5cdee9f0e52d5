//! Harness of the tests
