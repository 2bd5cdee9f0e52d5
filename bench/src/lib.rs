//! Benchmarks and load generators
