//! The part of an answer that is new, and the part that repeats the mail it answers. Nothing is thrown away: the two put
//! together are the text again, and the raw mail is kept anyhow.

use crate::mail::REPLY_LINE;

/// Splits a text into what was written and what was quoted after it.
pub fn split(text: &str) -> (&str, &str) {
    let mut starts = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        starts.push((at, line));
        at += line.len();
    }
    let cut =
        starts.iter().enumerate().find(|(i, (_, line))| begins_quote(line, &starts[i + 1..])).map(|(i, _)| i);
    let Some(mut cut) = cut else { return (text, "") };
    // The line that introduces the quotation, and empty lines before it, belong to it.
    while cut > 0
        && (starts[cut - 1].1.trim().is_empty()
            || introduces(starts[cut - 1].1)
            || is_quoted(starts[cut - 1].1))
    {
        cut -= 1;
    }
    let (fresh, quoted) = text.split_at(starts[cut].0);
    // An answer below or between the quotation is not cut: better too much than nothing.
    if fresh.trim().is_empty() { (text, "") } else { (fresh, quoted) }
}

fn is_quoted(line: &str) -> bool {
    line.trim_start().starts_with('>')
}

fn begins_quote(line: &str, rest: &[(usize, &str)]) -> bool {
    let bare = line.trim_matches(|c: char| c.is_whitespace() || c == '>' || c == '|');
    if bare.contains(REPLY_LINE) {
        return true;
    }
    let dashes = bare.trim_matches(|c: char| c == '-' || c == '_' || c.is_whitespace());
    if bare.starts_with("--") && ORIGINAL.iter().any(|words| dashes.eq_ignore_ascii_case(words)) {
        return true;
    }
    let only_quotes = |lines: &[(usize, &str)]| {
        lines.iter().any(|(_, l)| is_quoted(l))
            && lines.iter().all(|(_, l)| is_quoted(l) || l.trim().is_empty())
    };
    if introduces(line) && only_quotes(rest) {
        return true;
    }
    // Outlook: a block of header lines.
    OUTLOOK.iter().any(|(from, sent)| {
        bare.starts_with(from)
            && rest.iter().take(2).any(|(_, l)| l.trim_start_matches(['*', ' ', '>']).starts_with(sent))
    })
}

/// `On Monday, Ada wrote:` and its like.
fn introduces(line: &str) -> bool {
    let line = line.trim().trim_start_matches(['>', ' ']);
    line.ends_with(':') && WROTE.iter().any(|word| line.contains(word)) && line.len() < 300
}

const WROTE: [&str; 6] = [" wrote", " schrieb", " a écrit", " escribió", " ha scritto", " schreef"];
const ORIGINAL: [&str; 4] =
    ["Original Message", "Ursprüngliche Nachricht", "Originalnachricht", "Message d'origine"];
const OUTLOOK: [(&str, &str); 4] =
    [("From:", "Sent:"), ("Von:", "Gesendet:"), ("De :", "Envoyé :"), ("From:", "Date:")];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn common_programs() {
        for (text, fresh) in [
            ("It burns.\n", "It burns.\n"),
            ("Yes!\n\nOn Mon, Ada <a@b> wrote:\n> Is it off?\n>\n> Ada\n", "Yes!\n"),
            ("Ja!\n\nAm Montag schrieb Ada:\n> Ist er aus?\n", "Ja!\n"),
            ("Yes\n-----Original Message-----\nFrom: Ada\n", "Yes\n"),
            ("Ja\r\n\r\nVon: Ada\r\nGesendet: Montag\r\nAn: Bob\r\n", "Ja\r\n"),
            (
                "Done.\n\nOn Mon, Desk wrote:\n> -- Please write your answer above this line --\n> we have\nreceived\n",
                "Done.\n",
            ),
            // Answers between the lines stay whole.
            (
                "On Mon, Ada wrote:\n> is it off?\nno\n> why?\nbecause\n",
                "On Mon, Ada wrote:\n> is it off?\nno\n> why?\nbecause\n",
            ),
            ("> only a quotation\n", "> only a quotation\n"),
            (
                "The note says from: me\nFrom: here on it fails\n",
                "The note says from: me\nFrom: here on it fails\n",
            ),
        ] {
            assert_eq!(split(text).0, fresh, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost(lines in prop::collection::vec(prop::sample::select(vec![
            "hello\n", "> quoted\n", "\n", "On Mon, Ada wrote:\n", "From: a\n", "Sent: b\n", "-- Please write your answer above this line --\n", "ü\r\n",
        ]), 0..12)) {
            let text = lines.concat();
            let (fresh, quoted) = split(&text);
            prop_assert_eq!(format!("{fresh}{quoted}"), text.clone());
            prop_assert!(text.trim().is_empty() || !fresh.trim().is_empty());
        }
    }
}
