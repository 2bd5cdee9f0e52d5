//! What a file is, by its first bytes, and whether its name says so (ASVS 5.0, 5.2.2): people open what they are sent by its name.

use super::text;

/// So many bytes from the beginning tell it.
pub const FIRST: usize = 8192;

/// What names promise: the ending, and what may be behind it. Formats of Office and OpenDocument are zip archives.
const PROMISED: [(&[&str], &[&str]); 15] = [
    (&["png"], &["image/png"]),
    (&["jpg", "jpeg"], &["image/jpeg"]),
    (&["gif"], &["image/gif"]),
    (&["webp"], &["image/webp"]),
    (&["bmp"], &["image/bmp"]),
    (&["tif", "tiff"], &["image/tiff"]),
    (&["pdf"], &["application/pdf"]),
    (&["zip"], &["application/zip", "application/epub+zip", "application/vnd."]),
    (&["docx", "xlsx", "pptx", "odt", "ods", "odp"], &["application/zip", "application/vnd."]),
    (&["gz", "tgz"], &["application/gzip"]),
    (&["bz2"], &["application/x-bzip2"]),
    (&["xz"], &["application/x-xz"]),
    (&["7z"], &["application/x-7z-compressed"]),
    (&["rar"], &["application/vnd.rar"]),
    (&["mp4"], &["video/mp4", "video/x-m4v"]),
];

/// Endings of programs, which may be programs.
const PROGRAMS: [&str; 12] =
    ["exe", "dll", "msi", "sys", "com", "scr", "so", "dylib", "class", "wasm", "bin", "o"];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("is called .{ending}, and is something else")]
    Ending { ending: String },
    #[error("is a program, and its name does not say so")]
    Program,
}

/// The media type of a file: what its bytes say, else what its sender says. `first`: its beginning, up to [`FIRST`] bytes.
pub fn judged(first: &[u8], file_name: &str, declared: &str) -> Result<String, Mismatch> {
    let found = infer::get(first);
    let ending =
        file_name.rsplit_once('.').map(|(_, ending)| ending.trim().to_lowercase()).unwrap_or_default();
    if let Some((_, promised)) = PROMISED.iter().find(|(endings, _)| endings.contains(&ending.as_str())) {
        let is_kept = found.is_some_and(|found| {
            promised.iter().any(|media_type| {
                found.mime_type() == *media_type
                    || media_type.ends_with('.') && found.mime_type().starts_with(media_type)
            })
        });
        if !is_kept {
            return Err(Mismatch::Ending { ending });
        }
    }
    match found {
        Some(found)
            if found.matcher_type() == infer::MatcherType::App && !PROGRAMS.contains(&ending.as_str()) =>
        {
            Err(Mismatch::Program)
        }
        Some(found) if found.matcher_type() != infer::MatcherType::Text => Ok(found.mime_type().to_owned()),
        _ => Ok(text::media_type(declared)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    const PDF: &[u8] = b"%PDF-1.7\n";
    const EXE: &[u8] = b"MZ\x90\0\x03\0\0\0";
    const ELF: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    const ZIP: &[u8] = b"PK\x03\x04\x14\0\0\0";

    #[test]
    fn what_the_bytes_say_counts() {
        for (bytes, name, declared, expected) in [
            (PNG, "screen.PNG", "text/html", "image/png"),
            (PDF, "invoice.pdf", "application/octet-stream", "application/pdf"),
            (PNG, "screen", "image/png", "image/png"),
            (ZIP, "report.docx", "application/msword", "application/zip"),
            (EXE, "setup.exe", "image/png", "application/vnd.microsoft.portable-executable"),
            (b"a,b\n1,2\n", "table.csv", "text/csv; charset=utf-8", "text/csv"),
            (b"<html>", "page.html", "text/html", "text/html"),
            (b"", "empty.txt", "text/plain", "text/plain"),
            (b"whatever", "data.xyz", "no type", "application/octet-stream"),
        ] {
            assert_eq!(judged(bytes, name, declared).as_deref(), Ok(expected), "{name}");
        }
    }

    #[test]
    fn a_name_that_lies_is_found_out() {
        for (bytes, name) in [
            (EXE, "invoice.pdf"),
            (b"<script>" as &[u8], "photo.jpg"),
            (PDF, "scan.png"),
            (PNG, "a.docx"),
            (b"", "a.gif"),
        ] {
            let ending = name.rsplit('.').next().unwrap().to_owned();
            assert_eq!(judged(bytes, name, "x/y"), Err(Mismatch::Ending { ending }), "{name}");
        }
        for (bytes, name) in [(EXE, "readme.txt"), (ELF, "notes"), (EXE, "invoice.pdf.lnk"), (ELF, "log.csv")]
        {
            assert_eq!(judged(bytes, name, "text/plain"), Err(Mismatch::Program), "{name}");
        }
    }
}
