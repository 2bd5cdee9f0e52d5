//! The web pages
