//! Names of attributes (RFC 7644, 3.10) and filters (3.4.2.2): `userName eq "ada@example.org"`, `members[value eq "…"]`.

use super::{GROUP, Kind, Result, USER, Wrong};
use serde_json::Value;

/// Most comparisons of one filter.
const MOST_TERMS: usize = 10;

/// An attribute in lower case, without the schemas that everything here has: `name.givenName`, `phoneNumbers[type eq "work"].value`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Path {
    pub attribute: String,
    /// Which values of it, if not all.
    pub selected: Option<Vec<Term>>,
    pub sub: Option<String>,
}

/// `attribute eq value`.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// In lower case, with what follows a selection: `emails.value`.
    pub attribute: String,
    pub value: Value,
}

impl Path {
    pub fn parse(text: &str) -> Result<Path> {
        let wrong = || Wrong::new(Kind::InvalidPath, format!("the path {text:?} cannot be read"));
        let mut cursor = Cursor { rest: text.trim() };
        let path = cursor.path().map_err(|_| wrong())?;
        if cursor.rest.is_empty() { Ok(path) } else { Err(wrong()) }
    }

    pub fn is(&self, attribute: &str) -> bool {
        self.attribute == attribute && self.sub.is_none()
    }

    /// The text that a selection compares `attribute` with.
    pub fn selects(&self, attribute: &str) -> Option<&str> {
        let terms = self.selected.iter().flatten();
        terms.filter(|term| term.attribute == attribute).find_map(|term| term.value.as_str())
    }
}

/// All of these must be true. Comparisons other than `eq`, `or`, `not` and brackets are refused.
pub fn filter(text: &str) -> Result<Vec<Term>> {
    let mut cursor = Cursor { rest: text.trim() };
    let terms = cursor.terms(true)?;
    if cursor.rest.is_empty() { Ok(terms) } else { Err(unreadable()) }
}

fn unreadable() -> Wrong {
    let detail = "the filter cannot be read: it is `attribute eq \"value\"`, and more of them with `and`";
    Wrong::new(Kind::InvalidFilter, detail)
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_-$.:".contains(c);
        let end = self.rest.find(|c: char| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn path(&mut self) -> Result<Path> {
        let name = without_schema(self.word()).to_ascii_lowercase();
        let selected = match self.take('[') {
            true => {
                let terms = self.terms(false)?;
                if !self.take(']') {
                    return Err(unreadable());
                }
                Some(terms)
            }
            false => None,
        };
        let (attribute, sub) = match name.split_once('.') {
            Some((attribute, sub)) => (attribute.to_owned(), Some(sub.to_owned())),
            None => (name, None),
        };
        let sub = match selected.is_some() && self.take('.') {
            true if sub.is_none() => Some(self.word().to_ascii_lowercase()),
            true => return Err(unreadable()),
            false => sub,
        };
        if attribute.is_empty() || sub.as_deref() == Some("") {
            return Err(unreadable());
        }
        Ok(Path { attribute, selected, sub })
    }

    fn terms(&mut self, may_select: bool) -> Result<Vec<Term>> {
        let mut terms = Vec::new();
        loop {
            self.space();
            let path = if may_select {
                self.path()?
            } else {
                Path { attribute: self.word().to_ascii_lowercase(), ..Path::default() }
            };
            self.space();
            let op = self.word();
            if path.attribute.is_empty() || !op.eq_ignore_ascii_case("eq") {
                return Err(unreadable());
            }
            self.space();
            let value = self.literal()?;
            let attribute = match path.sub {
                Some(sub) => format!("{}.{sub}", path.attribute),
                None => path.attribute,
            };
            terms.push(Term { attribute, value });
            self.space();
            if self.rest.is_empty() || self.rest.starts_with(']') {
                return Ok(terms);
            }
            if !self.word().eq_ignore_ascii_case("and") || terms.len() >= MOST_TERMS {
                return Err(unreadable());
            }
        }
    }

    /// As JSON writes it.
    fn literal(&mut self) -> Result<Value> {
        let text = if self.rest.starts_with('"') {
            let mut escaped = false;
            let end = self.rest.char_indices().skip(1).find(|(_, c)| {
                let is_end = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                is_end
            });
            let (end, _) = end.ok_or_else(unreadable)?;
            let (text, rest) = self.rest.split_at(end + 1);
            self.rest = rest;
            text.to_owned()
        } else {
            self.word().to_ascii_lowercase()
        };
        serde_json::from_str(&text).map_err(|_| unreadable())
    }
}

fn without_schema(name: &str) -> &str {
    let of = |schema: &str| {
        let (head, rest) = name.split_at_checked(schema.len())?;
        head.eq_ignore_ascii_case(schema).then(|| rest.strip_prefix(':')).flatten()
    };
    of(USER).or_else(|| of(GROUP)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn term(attribute: &str, value: Value) -> Term {
        Term { attribute: attribute.to_owned(), value }
    }

    #[test]
    fn filters_of_entra_and_okta_are_read() {
        for (text, terms) in [
            (r#"userName eq "Ada@Example.org""#, vec![term("username", json!("Ada@Example.org"))]),
            (r#"USERNAME EQ "a\"b and c""#, vec![term("username", json!("a\"b and c"))]),
            (r#"externalId eq "" "#, vec![term("externalid", json!(""))]),
            (r#"emails[type eq "work"].value eq "a@b.c""#, vec![term("emails.value", json!("a@b.c"))]),
            (r#"id eq "1" and members eq "2""#, vec![term("id", json!("1")), term("members", json!("2"))]),
            (
                r#"urn:ietf:params:scim:schemas:core:2.0:User:userName eq "a" and active eq True"#,
                vec![term("username", json!("a")), term("active", json!(true))],
            ),
        ] {
            assert_eq!(filter(text).unwrap(), terms, "{text}");
        }
    }

    #[test]
    fn other_filters_are_refused_as_such() {
        let many = [r#"a eq "b""#; 11].join(" and ");
        for text in [
            "",
            "userName",
            "userName eq",
            "userName pr",
            r#"userName sw "a""#,
            r#"not (userName eq "a")"#,
            r#"userName eq "a" or userName eq "b""#,
            r#"userName eq "a" and"#,
            r#"userName eq "a"#,
            r#"userName eq 'a'"#,
            r#"userName eq "a"]"#,
            r#"emails[type eq "work".value eq "a""#,
            r#"a[b[c eq "d"] eq "e"] eq "f""#,
            &many,
        ] {
            assert_eq!(filter(text).unwrap_err().kind, Kind::InvalidFilter, "{text}");
        }
    }

    #[test]
    fn paths_are_taken_apart() {
        let path = Path::parse(r#"phoneNumbers[type eq "work"].value"#).unwrap();
        assert_eq!((path.attribute.as_str(), path.sub.as_deref()), ("phonenumbers", Some("value")));
        assert_eq!(path.selects("type"), Some("work"));
        let path = Path::parse("urn:ietf:params:scim:schemas:core:2.0:User:name.givenName").unwrap();
        assert_eq!((path.attribute.as_str(), path.sub.as_deref()), ("name", Some("givenname")));
        assert!(Path::parse("urn:ietf:params:scim:schemas:core:2.0:Group:members").unwrap().is("members"));
        for text in ["", " ", "a.", "a[", "a[b eq", r#"a[b eq "c"].""#, "members x", "a b", "(a)"] {
            assert_eq!(Path::parse(text).unwrap_err().kind, Kind::InvalidPath, "{text:?}");
        }
    }
}
