use super::rights::shipped;
use super::*;
use crate::{DepartmentId, OrganizationId, RoleId, TeamId, UserId};
use proptest::prelude::*;
use std::fmt::Write;

/// The table of `docs/security.md`, which must be this.
fn table() -> String {
    let mut out =
        String::from("| permission | admin | manager | agent | end user |\n|---|---|---|---|---|\n");
    for permission in Permission::ALL {
        let marks = Role::ALL.map(|role| if allows(role, *permission) { "yes" } else { "" });
        writeln!(out, "| `{}` | {} |", permission.as_str(), marks.join(" | ")).unwrap();
    }
    out
}

#[test]
fn the_documented_matrix_is_the_real_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/security.md");
    let page = std::fs::read_to_string(path).unwrap();
    assert!(page.contains(&table()), "docs/security.md must contain this table:\n\n{}", table());
}

#[test]
fn a_role_can_do_all_that_the_role_below_it_can() {
    for permission in Permission::ALL {
        for pair in Role::ALL.windows(2) {
            assert!(allows(pair[0], *permission) || !allows(pair[1], *permission), "{permission:?}");
        }
    }
}

#[test]
fn end_users_have_exactly_the_owners_side() {
    let theirs: Vec<_> =
        Permission::ALL.iter().filter(|p| allows(Role::EndUser, **p)).map(|p| p.as_str()).collect();
    assert_eq!(
        theirs,
        [
            "tickets.view_own",
            "tickets.create",
            "tickets.comment_public",
            "tickets.reopen",
            "tokens.own",
            "events.follow"
        ]
    );
    for permission in Permission::ALL.iter().filter(|p| p.has_scopes()) {
        assert!(shipped(Role::EndUser, *permission) <= Some(Scope::Own), "{permission:?}");
    }
}

fn person(rights: Rights) -> Actor {
    Actor::user(OrganizationId::new(), rights.user, "Ada", rights)
}

#[test]
fn the_system_may_and_a_refusal_names_the_permission() {
    let system = Actor::system(OrganizationId::new(), "ingest_mail");
    assert_eq!(check(&system, Permission::OrganizationManage), Ok(()));
    assert_eq!(reach(&system), Reach::Everything);
    let ada = person(Rights::of_role(UserId::new(), Role::EndUser));
    let denied = check(&ada, Permission::PeopleManage).unwrap_err();
    assert_eq!(denied.to_string(), "this needs the permission people.manage (admin may)");
    let limited = Rights::of_role(UserId::new(), Role::Admin).limited(Some(Limits::to([])));
    let denied = check(&person(limited), Permission::PeopleManage).unwrap_err();
    assert_eq!(denied.to_string(), "this needs the permission people.manage, which this token does not have");
}

#[test]
fn what_the_shipped_roles_see_and_do() {
    let stranger = Standing::default();
    let confidential = Standing { is_confidential: true, ..stranger };
    let watcher = Standing { is_watcher: true, ..confidential };
    for (role, sees_any, sees_confidential) in [
        (Role::Admin, true, true),
        (Role::Manager, true, false),
        (Role::Agent, true, false),
        (Role::EndUser, false, false),
    ] {
        let rights = Rights::of_role(UserId::new(), role);
        assert_eq!(may_see(&rights, stranger).allowed, sees_any, "{role:?}");
        assert_eq!(may_see(&rights, confidential).allowed, sees_confidential, "{role:?}");
        assert!(may_see(&rights, watcher).allowed, "{role:?}");
        assert_eq!(decide(&rights, Permission::TicketsUpdate, stranger).allowed, sees_any, "{role:?}");
    }
    let agent = Rights::of_role(UserId::new(), Role::Agent);
    assert_eq!(decide(&agent, Permission::TicketsAssign, confidential).why, Why::Confidential);
}

#[test]
fn nobody_hands_out_what_they_do_not_have() {
    let team = |permission| Permissions::from([(permission, Scope::Team)]);
    let held = |permissions| HeldRole { id: RoleId::new(), name: "lead".into(), team: None, permissions };
    let mut lead = Rights::of_role(UserId::new(), Role::EndUser);
    lead.custom.push(held(team(Permission::TicketsView)));
    // Another person's team is not one's own.
    let refused = covers(&person(lead.clone()), &team(Permission::TicketsView)).unwrap_err();
    assert_eq!(refused, Exceeds { permission: Permission::TicketsView, scope: Scope::Organization });
    let own = Permissions::from([(Permission::TicketsViewOwn, Scope::Own)]);
    assert_eq!(covers(&person(lead.clone()), &own), Ok(()));
    let admin = Rights::of_role(UserId::new(), Role::Admin);
    assert_eq!(covers(&person(admin.clone()), &Role::Admin.permissions()), Ok(()));
    assert_eq!(covers_user(&person(admin.clone()), &lead), Ok(()));
    assert!(covers_user(&person(lead), &admin).is_err());
    let limited = admin.clone().limited(Some(Limits::to([Permission::PeopleManage])));
    assert!(covers_user(&person(limited), &admin).is_err());
}

fn permissions() -> impl Strategy<Value = Permissions> {
    let one = (0..Permission::ALL.len(), 0..4usize);
    proptest::collection::vec(one, 0..8)
        .prop_map(|all| all.into_iter().map(|(p, scope)| (Permission::ALL[p], Scope::ALL[scope])).collect())
}

fn rights() -> impl Strategy<Value = Rights> {
    (0..4usize, proptest::collection::vec(permissions(), 0..3)).prop_map(|(role, custom)| {
        let held = |permissions| HeldRole { id: RoleId::new(), name: "x".into(), team: None, permissions };
        Rights {
            custom: custom.into_iter().map(held).collect(),
            teams: vec![TeamId::new()],
            departments: vec![DepartmentId::new()],
            ..Rights::of_role(UserId::new(), Role::ALL[role])
        }
    })
}

fn standing() -> impl Strategy<Value = Standing> {
    any::<[bool; 6]>().prop_map(|[a, b, c, d, e, f]| Standing {
        is_requester: a,
        is_watcher: b,
        is_assignee: c,
        is_in_team: d,
        is_in_department: e,
        is_confidential: f,
    })
}

proptest! {
    /// Nothing granted, nothing allowed; and what is allowed is granted.
    #[test]
    fn denied_unless_granted(rights in rights(), standing in standing(), p in 0..Permission::ALL.len()) {
        let permission = Permission::ALL[p];
        let decision = decide(&rights, permission, standing);
        let sees = rights.scope(Permission::TicketsView).or(rights.scope(Permission::TicketsViewOwn));
        prop_assert!(!decision.allowed || sees.is_some());
        if permission != Permission::TicketsView && permission != Permission::TicketsViewOwn {
            prop_assert!(!decision.allowed || rights.scope(permission).is_some());
        }
        let none = rights.clone().limited(Some(Limits::to([])));
        prop_assert!(!decide(&none, permission, standing).allowed);
        prop_assert_eq!(reach(&person(none)), Reach::Nothing);
    }

    /// A further role, or a wider scope, never takes anything away.
    #[test]
    fn more_rights_allow_no_less(rights in rights(), more in permissions(), standing in standing(),
                                 p in 0..Permission::ALL.len()) {
        let mut wider = rights.clone();
        wider.custom.push(HeldRole { id: RoleId::new(), name: "more".into(), team: None, permissions: more });
        let permission = Permission::ALL[p];
        prop_assert!(!decide(&rights, permission, standing).allowed || decide(&wider, permission, standing).allowed);
        prop_assert!(wider.scope(permission) >= rights.scope(permission));
    }

    /// Nor does a closer relation to the ticket: what its own fields allow needs no look at the rest.
    #[test]
    fn a_closer_standing_allows_no_less(rights in rights(), standing in standing(), p in 0..Permission::ALL.len()) {
        let permission = Permission::ALL[p];
        let closer = [
            Standing { is_requester: true, ..standing },
            Standing { is_watcher: true, ..standing },
            Standing { is_assignee: true, ..standing },
            Standing { is_in_team: true, ..standing },
            Standing { is_in_department: true, ..standing },
            Standing { is_confidential: false, ..standing },
        ];
        if decide(&rights, permission, standing).allowed {
            for closer in closer {
                prop_assert!(decide(&rights, permission, closer).allowed, "{closer:?}");
            }
        }
    }

    /// A token never does what its user cannot.
    #[test]
    fn limits_only_narrow(rights in rights(), limits in permissions(), standing in standing(),
                          p in 0..Permission::ALL.len()) {
        let permission = Permission::ALL[p];
        let limited = rights.clone().limited(Some(Limits::to(limits.into_keys())));
        prop_assert!(limited.scope(permission) <= rights.scope(permission));
        prop_assert!(!decide(&limited, permission, standing).allowed || decide(&rights, permission, standing).allowed);
        prop_assert!(covers_user(&person(limited), &rights).is_err() || covers_user(&person(rights.clone()), &rights).is_ok());
    }
}
