//! Full-text search of tickets and configuration items. An index names those that may match (migrations 0088 and 0097); row level security,
//! visibility and the words themselves decide on each.

use crate::{Result, Tx};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

/// More than that are not handed over one by one: with so many, walking through the list in its order comes across enough of them soon.
const MOST: i32 = 2000;

/// What is searched.
#[derive(Clone, Copy, Debug)]
pub enum Searched {
    /// Those that the query calls `t`.
    Tickets,
    /// Those that the query calls `c`.
    Items,
}

/// What somebody typed into a search field: quotes, `or` and `-` work as in web searches.
#[derive(Clone, Debug)]
pub struct Search {
    text: String,
    /// Plain words also match as beginnings of words (`print` finds `printer`), unless the search uses operators.
    prefixes: Option<String>,
}

impl Search {
    /// None: nothing is searched for. What holds no word is found nowhere.
    pub fn of(q: Option<&str>) -> Option<Search> {
        let q = q.filter(|q| !q.trim().is_empty())?;
        let text = plain(q);
        Some(Search { prefixes: prefixes(&text), text })
    }

    /// Adds ` and …`: only what matches.
    pub fn condition(&self, sql: &mut QueryBuilder<Postgres>, searched: Searched) {
        sql.push(match searched {
            Searched::Tickets => " and t.search @@ ",
            Searched::Items => " and c.search @@ ",
        });
        self.query(sql);
    }

    fn query(&self, sql: &mut QueryBuilder<Postgres>) {
        // In a query of its own, which is read once and not for each row.
        sql.push("(select websearch_to_tsquery('simple', ").push_bind(self.text.clone()).push(")");
        if let Some(prefixes) = &self.prefixes {
            sql.push(" || to_tsquery('simple', ").push_bind(prefixes.clone()).push(")");
        }
        sql.push(")");
    }

    /// All of the organization that may match, by the index; `None` when they are too many to name, or when the words do not say.
    pub async fn candidates(&self, tx: &mut Tx, searched: Searched) -> Result<Option<Vec<Uuid>>> {
        let mut sql = QueryBuilder::new(match searched {
            Searched::Tickets => "select search.tickets_with(",
            Searched::Items => "select search.items_with(",
        });
        self.query(&mut sql);
        sql.push(", ").push_bind(MOST).push(")");
        Ok(sql.build_query_scalar().fetch_one(&mut **tx).await?)
    }
}

/// PostgreSQL's parser keeps the dashes that begin a word on a stack of 32: more than one of them say nothing new.
fn plain(q: &str) -> String {
    let word = |word: &str| match word.trim_start_matches('-') {
        "" => None,
        bare if bare.len() < word.len() => Some(format!("-{bare}")),
        bare => Some(bare.to_owned()),
    };
    q.replace('\0', " ").split_whitespace().filter_map(word).collect::<Vec<_>>().join(" ")
}

fn prefixes(q: &str) -> Option<String> {
    let words: Vec<&str> = q.split_whitespace().collect();
    if q.is_empty()
        || q.contains('"')
        || words.iter().any(|word| word.starts_with('-') || word.eq_ignore_ascii_case("or"))
    {
        return None;
    }
    let quoted = words.iter().map(|word| format!("'{}':*", word.replace('\\', "\\\\").replace('\'', "''")));
    Some(quoted.collect::<Vec<_>>().join(" & "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_in_a_row_are_one_or_none() {
        for (q, expected) in [
            (" ---a  b-\0-c -- -", "-a b- -c"),
            ("\"a --b\"", "\"a -b\""),
            ("- --- -", ""),
            ("db-01", "db-01"),
        ] {
            assert_eq!(plain(q), expected, "{q:?}");
        }
        assert!(
            Search::of(Some(" ")).is_none() && Search::of(None).is_none() && Search::of(Some("--")).is_some()
        );
    }

    #[test]
    fn plain_words_become_prefixes_and_operators_do_not() {
        assert_eq!(prefixes("print db-01").as_deref(), Some("'print':* & 'db-01':*"));
        assert_eq!(prefixes(r"it's \ ").as_deref(), Some(r"'it''s':* & '\\':*"));
        for operators in ["\"paper jam\"", "printer -laser", "printer or scanner"] {
            assert_eq!(prefixes(operators), None, "{operators}");
        }
    }
}
