//! Who is there already, as far as lines name them: read for many lines at once, and kept true while they are worked.

use crate::{Error, Result};
use domain::people_sheet::{Column, PersonRow};
use domain::{EmailAddress, UserId};
use std::collections::HashMap;
use store::Tx;
use store::users::User;

#[derive(Default)]
pub(super) struct Known {
    people: HashMap<UserId, User>,
    /// Also of those who were made by now.
    emails: HashMap<String, UserId>,
    external_ids: HashMap<String, UserId>,
}

/// What another system may call somebody.
pub(super) fn is_external_id(text: &str) -> bool {
    text.chars().count() <= 200 && !text.chars().any(char::is_control)
}

impl Known {
    /// Those whom these lines may mean.
    pub(super) async fn read(&mut self, tx: &mut Tx, lines: &[PersonRow]) -> Result<()> {
        let email = |row: &PersonRow| EmailAddress::parse(row.get(Column::Email)?).ok().map(String::from);
        let external_id = |row: &PersonRow| {
            row.get(Column::ExternalId).filter(|text| is_external_id(text)).map(str::to_owned)
        };
        let emails: Vec<String> = lines.iter().filter_map(email).collect();
        let external_ids: Vec<String> = lines.iter().filter_map(external_id).collect();
        self.look_up(tx, &emails, &external_ids).await
    }

    /// Those with these addresses.
    pub(super) async fn read_addresses(&mut self, tx: &mut Tx, emails: &[String]) -> Result<()> {
        let unknown = emails.iter().filter(|email| !self.emails.contains_key(*email));
        let unknown: Vec<String> = unknown.cloned().collect();
        self.look_up(tx, &unknown, &[]).await
    }

    async fn look_up(&mut self, tx: &mut Tx, emails: &[String], external_ids: &[String]) -> Result<()> {
        if emails.is_empty() && external_ids.is_empty() {
            return Ok(());
        }
        for user in store::user_imports::known(tx, emails, external_ids).await? {
            self.emails.insert(user.email.clone(), user.id);
            self.external_ids.extend(user.external_id.clone().map(|external_id| (external_id, user.id)));
            self.people.insert(user.id, user);
        }
        Ok(())
    }

    /// Somebody new is found by these.
    pub(super) fn made(&mut self, user: UserId, email: &EmailAddress, external_id: Option<&str>) {
        self.emails.insert(email.to_string(), user);
        self.external_ids.extend(external_id.map(|external_id| (external_id.to_owned(), user)));
    }

    /// Another system calls them something else.
    pub(super) fn renamed(&mut self, user: UserId, before: Option<&str>, now: &str) {
        if let Some(before) = before {
            self.external_ids.remove(before);
        }
        self.external_ids.insert(now.to_owned(), user);
    }

    pub(super) fn by_email(&self, email: &str) -> Option<UserId> {
        self.emails.get(email).copied()
    }

    /// By the id that another system gave, else by the address; both lead to the same person or the line is wrong.
    pub(super) fn find(&self, email: &EmailAddress, external_id: Option<&str>) -> Result<Option<User>> {
        let by_email = self.by_email(email.as_str());
        let by_id = external_id.and_then(|external_id| self.external_ids.get(external_id).copied());
        match (by_id, by_email) {
            (Some(one), Some(other)) if one != other => Err(Error::invalid(
                "/external_id",
                "is somebody else's: the address belongs to another person",
            )),
            // Whoever has the address gets the links to a new password.
            (Some(_), None) => Err(Error::invalid(
                "/email",
                "this person has another address: an import changes no addresses",
            )),
            (_, by_email) => Ok(by_email.and_then(|id| self.people.get(&id)).cloned()),
        }
    }
}
