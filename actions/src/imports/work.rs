//! The lines of a table, taken in: what they say is read line by line, and looked up and written for many of them at once.

use super::Report;
use super::known::{Known, is_external_id};
use crate::departments::DepartmentFields;
use crate::teams::TeamFields;
use crate::users::{Checked, NewPerson, PersonChanges};
use crate::{Error, Result, check, departments, teams, users};
use domain::people_sheet::{Column, Counts, PersonRow, RowError};
use domain::{Actor, DepartmentId, EmailAddress, Role, TeamId, UserId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use store::Tx;
use store::users::User;

struct Person<'a> {
    row: &'a PersonRow,
    user: UserId,
    created: bool,
    changed: bool,
    /// Told already: nothing more is done with the line.
    is_wrong: bool,
}

pub(super) struct Work<'a> {
    actor: &'a Actor,
    creates_missing: bool,
    known: Known,
    departments: HashMap<String, DepartmentId>,
    teams: HashMap<String, TeamId>,
    /// The line in which each stood first.
    emails: HashMap<String, u64>,
    external_ids: HashMap<String, u64>,
    /// Those who are to be made, together.
    pending: Vec<(&'a PersonRow, Checked)>,
    /// Those who are to be changed, together.
    changing: Vec<(&'a PersonRow, UserId, PersonChanges)>,
    people: Vec<Person<'a>>,
    errors: Vec<RowError>,
}

impl<'a> Work<'a> {
    pub(super) fn new(actor: &'a Actor, creates_missing: bool) -> Self {
        Work {
            actor,
            creates_missing,
            known: Known::default(),
            departments: HashMap::new(),
            teams: HashMap::new(),
            emails: HashMap::new(),
            external_ids: HashMap::new(),
            pending: Vec::new(),
            changing: Vec::new(),
            people: Vec::new(),
            errors: Vec::new(),
        }
    }

    pub(super) fn report(mut self, rows: usize) -> Report {
        let mut counts = Counts { rows: i32::try_from(rows).unwrap_or(i32::MAX), ..Counts::default() };
        for person in &self.people {
            match person {
                Person { created: true, .. } => counts.created += 1,
                Person { changed: true, .. } => counts.changed += 1,
                Person { .. } => counts.unchanged += 1,
            }
        }
        self.errors.sort_by_key(|error| error.line);
        Report { counts, errors: self.errors }
    }

    /// What is wrong with lines is told with each; only when the database fails is the whole given up.
    fn told(&mut self, lines: impl IntoIterator<Item = u64>, error: Error) -> Result<()> {
        let wrong: Vec<(Option<String>, String)> = match error {
            Error::Invalid(fields) => fields
                .into_iter()
                .map(|field| {
                    let column = field.pointer.trim_start_matches('/').to_owned();
                    ((!column.is_empty()).then_some(column), field.detail)
                })
                .collect(),
            Error::Forbidden(detail) | Error::Conflict(detail) => vec![(None, detail)],
            Error::NotFound => vec![(None, "somebody deleted it meanwhile".to_owned())],
            other => return Err(other),
        };
        for line in lines {
            let of_line = |(column, detail): &(Option<String>, String)| RowError {
                line,
                column: column.clone(),
                detail: detail.clone(),
            };
            self.errors.extend(wrong.iter().map(of_line));
        }
        Ok(())
    }

    /// Makes and changes the people of these lines.
    pub(super) async fn lines(&mut self, tx: &mut Tx, lines: &'a [PersonRow]) -> Result<()> {
        self.known.read(tx, lines).await?;
        for row in lines {
            if let Err(error) = self.person(tx, row).await {
                self.told([row.line], error)?;
            }
        }
        self.write(tx).await
    }

    /// Changes one person, or has them made or changed.
    async fn person(&mut self, tx: &mut Tx, row: &'a PersonRow) -> Result<()> {
        let given = row.get(Column::Email).ok_or_else(|| Error::invalid("/email", "is required"))?;
        let email = check::email("/email", given)?;
        self.once(row, &email)?;
        let role: Option<Role> = match row.get(Column::Role) {
            Some(word) => {
                Some(word.to_lowercase().parse().map_err(|error: String| Error::invalid("/role", error))?)
            }
            None => None,
        };
        let department = match row.get(Column::Department) {
            Some(name) => Some(self.department(tx, name).await?),
            None => None,
        };
        let external_id = row.get(Column::ExternalId);
        if let Some(now) = self.known.find(&email, external_id)? {
            return self.change(tx, row, now, role, department).await;
        }
        let new = NewPerson {
            name: row.get(Column::Name).unwrap_or_else(|| email.local_part()).to_owned(),
            email: email.to_string(),
            role: role.unwrap_or(Role::EndUser),
            password_hash: None,
            department,
            manager: None,
            time_zone: row.get(Column::TimeZone).map(str::to_owned),
            locale: row.get(Column::Locale).map(str::to_owned),
            phone: row.get(Column::Phone).map(str::to_owned),
        };
        let mut new = users::checked(self.actor, new)?;
        new.external_id = external_id.map(str::to_owned);
        self.pending.push((row, new));
        Ok(())
    }

    /// Makes those who are to be made, and changes those who are to be changed.
    async fn write(&mut self, tx: &mut Tx) -> Result<()> {
        self.make(tx).await?;
        let changing = std::mem::take(&mut self.changing);
        if changing.is_empty() {
            return Ok(());
        }
        let wanted: Vec<_> = changing.iter().map(|(_, user, changes)| (*user, changes.clone())).collect();
        let answers = users::update_plainly(tx, self.actor, &wanted).await?;
        for ((row, user, _), answer) in changing.into_iter().zip(answers) {
            match answer {
                Ok(()) => self.is_there(row, user, true),
                Err(error) => self.told([row.line], error)?,
            }
        }
        Ok(())
    }

    fn is_there(&mut self, row: &'a PersonRow, user: UserId, changed: bool) {
        self.people.push(Person { row, user, created: false, changed, is_wrong: false });
    }

    async fn make(&mut self, tx: &mut Tx) -> Result<()> {
        let (rows, new): (Vec<&PersonRow>, Vec<Checked>) =
            std::mem::take(&mut self.pending).into_iter().unzip();
        if rows.is_empty() {
            return Ok(());
        }
        let made = users::add(tx, self.actor, &new).await?;
        for ((row, new), made) in rows.into_iter().zip(new).zip(made) {
            match made {
                Some(user) => {
                    self.known.made(user, &new.email, new.external_id.as_deref());
                    self.people.push(Person { row, user, created: true, changed: false, is_wrong: false });
                }
                None => self.told([row.line], users::address_is_taken())?,
            }
        }
        Ok(())
    }

    /// One line a person.
    fn once(&mut self, row: &PersonRow, email: &EmailAddress) -> Result<()> {
        if let Some(first) = self.emails.insert(email.to_string(), row.line) {
            return Err(Error::invalid("/email", format!("stands in line {first} already")));
        }
        if let Some(external_id) = row.get(Column::ExternalId) {
            if !is_external_id(external_id) {
                return Err(Error::invalid("/external_id", "must be one line of at most 200 characters"));
            }
            if let Some(first) = self.external_ids.insert(external_id.to_owned(), row.line) {
                return Err(Error::invalid("/external_id", format!("stands in line {first} already")));
            }
        }
        Ok(())
    }

    async fn department(&mut self, tx: &mut Tx, name: &str) -> Result<DepartmentId> {
        if let Some(known) = self.departments.get(name) {
            return Ok(*known);
        }
        let id = match store::user_imports::department_named(tx, name).await? {
            Some(id) => id,
            None if self.creates_missing => {
                let fields = DepartmentFields { name: name.to_owned(), parent: None, manager: None };
                departments::create(tx, self.actor, fields)
                    .await
                    .map_err(|error| under_column(error, "/department"))?
                    .id
            }
            None => return Err(Error::invalid("/department", "there is no such department")),
        };
        self.departments.insert(name.to_owned(), id);
        Ok(id)
    }

    async fn team(&mut self, tx: &mut Tx, name: &str) -> Result<TeamId> {
        if let Some(known) = self.teams.get(name) {
            return Ok(*known);
        }
        let id = match store::user_imports::team_named(tx, name).await? {
            Some(id) => id,
            None if self.creates_missing => {
                let fields =
                    TeamFields { name: name.to_owned(), email: None, manager: None, department: None };
                teams::create(tx, self.actor, fields).await.map_err(|error| under_column(error, "/teams"))?.id
            }
            None => return Err(Error::invalid("/teams", format!("there is no team {name:?}"))),
        };
        self.teams.insert(name.to_owned(), id);
        Ok(id)
    }

    /// Only what differs: a table that is handed in again changes nothing.
    async fn change(
        &mut self,
        tx: &mut Tx,
        row: &'a PersonRow,
        now: User,
        role: Option<Role>,
        department: Option<DepartmentId>,
    ) -> Result<()> {
        if now.owner.is_some() {
            return Err(Error::invalid("/email", "is a service account"));
        }
        let id = now.id;
        let text = |column: Column, current: &Option<String>| {
            row.get(column)
                .filter(|wanted| current.as_deref() != Some(*wanted))
                .map(|wanted| Some(wanted.to_owned()))
        };
        let changes = PersonChanges {
            name: row.get(Column::Name).filter(|name| *name != now.name).map(str::to_owned),
            role: role.filter(|role| *role != now.role),
            department: department.filter(|department| now.department != Some(*department)).map(Some),
            time_zone: text(Column::TimeZone, &now.time_zone),
            locale: text(Column::Locale, &now.locale).filter(|locale| {
                // Taken in another spelling, it is the same.
                locale.as_deref().and_then(domain::language_tag) != now.locale
            }),
            phone: text(Column::Phone, &now.phone),
            ..PersonChanges::default()
        };
        let external_id = row.get(Column::ExternalId);
        let external_id = external_id.filter(|wanted| now.external_id.as_deref() != Some(*wanted));
        let changed = !changes.is_empty() || external_id.is_some();
        if changed && changes.is_plain() && external_id.is_none() {
            self.changing.push((row, id, changes));
            return Ok(());
        }
        if changes.role.is_some() {
            // Who was an admin alone may not be that any more by the lines before.
            self.write(tx).await?;
        }
        if !changes.is_empty() {
            let before = users::lock(tx, id, &changes).await?;
            users::update(tx, self.actor, before, changes).await?;
        }
        if let Some(external_id) = external_id {
            crate::roles::may_govern(tx, self.actor, id).await?;
            store::user_imports::set_external_id(tx, id, external_id).await?;
            self.known.renamed(id, now.external_id.as_deref(), external_id);
        }
        self.is_there(row, id, changed);
        Ok(())
    }

    /// The first team of each line, then the second …: what is wrong with one ends its line.
    pub(super) async fn join_teams(&mut self, tx: &mut Tx) -> Result<()> {
        let mut people = std::mem::take(&mut self.people);
        let named: Vec<Vec<&str>> = people.iter().map(|person| person.row.teams().collect()).collect();
        let known = people.iter().zip(&named).filter(|(person, teams)| !person.created && !teams.is_empty());
        let known: Vec<UserId> = known.map(|(person, _)| person.user).collect();
        let mut members: HashSet<(TeamId, UserId)> = HashSet::new();
        if !known.is_empty() {
            members.extend(store::user_imports::memberships(tx, &known).await?);
        }
        for round in 0..named.iter().map(Vec::len).max().unwrap_or_default() {
            let mut joining: BTreeMap<TeamId, Vec<&mut Person<'a>>> = BTreeMap::new();
            for (person, teams) in people.iter_mut().zip(&named) {
                let Some(name) = teams.get(round).filter(|_| !person.is_wrong) else { continue };
                match self.team(tx, name).await {
                    Ok(team) if !members.insert((team, person.user)) => {}
                    Ok(team) => joining.entry(team).or_default().push(person),
                    Err(error) => {
                        person.is_wrong = true;
                        self.told([person.row.line], error)?;
                    }
                }
            }
            for (team, mut people) in joining {
                for people in people.chunks_mut(super::AT_ONCE) {
                    self.join(tx, team, people).await?;
                }
            }
        }
        people.retain(|person| !person.is_wrong);
        self.people = people;
        Ok(())
    }

    async fn join(&mut self, tx: &mut Tx, team: TeamId, people: &mut [&mut Person<'a>]) -> Result<()> {
        let users: Vec<UserId> = people.iter().map(|person| person.user).collect();
        let answers = match teams::add_members(tx, self.actor, team, &users).await {
            Ok(answers) => answers,
            Err(error) => {
                people.iter_mut().for_each(|person| person.is_wrong = true);
                let lines = people.iter().map(|person| person.row.line);
                return self.told(lines, under_column(error, "/teams"));
            }
        };
        for (person, (_, answer)) in people.iter_mut().zip(answers) {
            match answer {
                Ok(()) => person.changed = true,
                Err(error) => {
                    person.is_wrong = true;
                    self.told([person.row.line], under_column(error, "/teams"))?;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn set_managers(&mut self, tx: &mut Tx) -> Result<()> {
        let mut people = std::mem::take(&mut self.people);
        let mut asked = Vec::new();
        for person in &mut people {
            let Some(given) = person.row.get(Column::Manager) else { continue };
            match check::email("/manager", given) {
                Ok(email) => asked.push((person, String::from(email))),
                Err(error) => self.told([person.row.line], error)?,
            }
        }
        let addresses: BTreeSet<String> = asked.iter().map(|(_, email)| email.clone()).collect();
        self.known.read_addresses(tx, &Vec::from_iter(addresses)).await?;
        let mut wanted = Vec::new();
        for (person, email) in asked {
            match self.known.by_email(&email) {
                Some(manager) => wanted.push((person, manager)),
                None => {
                    let error = Error::invalid("/manager", "there is no user with this address");
                    self.told([person.row.line], error)?;
                }
            }
        }
        for wanted in wanted.chunks_mut(super::AT_ONCE) {
            let pairs: Vec<_> = wanted.iter().map(|(person, manager)| (person.user, *manager)).collect();
            let answers = users::set_managers(tx, self.actor, &pairs).await?;
            for ((person, _), (_, answer)) in wanted.iter_mut().zip(answers) {
                match answer {
                    Ok(changed) => person.changed |= changed,
                    Err(error) => self.told([person.row.line], error)?,
                }
            }
        }
        self.people = people;
        Ok(())
    }
}

/// What a verb says about a name belongs to the column that held it.
fn under_column(error: Error, pointer: &str) -> Error {
    match error {
        Error::Invalid(fields) => Error::invalid(
            pointer,
            fields.into_iter().map(|field| field.detail).collect::<Vec<_>>().join("; "),
        ),
        Error::Conflict(detail) => Error::invalid(pointer, detail),
        other => other,
    }
}
