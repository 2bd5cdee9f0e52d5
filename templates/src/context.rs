//! The promise between a template and the code that fills it.

use serde::Serialize;

/// What one template can say. All fields are serialised, `None` as null: in strict mode a field that is left out is an
/// error.
pub trait Context: Serialize {
    /// Folder and name, for example `mail/receipt`.
    const NAME: &'static str;
    /// The parts with their sources; written with [`parts!`].
    const PARTS: &'static [(&'static str, &'static str)];
    /// Examples for the tests and for previews; the awkward ones (quotes, brackets, nothing there) belong to them.
    fn samples() -> Vec<Self>
    where
        Self: Sized;
}

/// `parts!("mail/receipt": "subject", "text", "html")`: reads `mail/receipt.subject.hbs` and so on into the binary.
macro_rules! parts {
    ($name:literal : $($part:literal),+ $(,)?) => {
        &[$((
            concat!($name, ".", $part),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $name, ".", $part, ".hbs")),
        )),+]
    };
}
pub(crate) use parts;
