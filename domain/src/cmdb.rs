//! Configuration items: what the organization runs, and how the items hang together.

use crate::words::words;

words! {
    CiStatus("status of a configuration item") {
        Planned => "planned",
        Active => "active",
        Maintenance => "maintenance",
        Inactive => "inactive",
        Retired => "retired",
    }
}

words! {
    /// Read from the first item to the second: "shop runs on web1".
    CiRelationKind("kind of relationship") {
        DependsOn => "depends_on",
        RunsOn => "runs_on",
        HostedOn => "hosted_on",
        PartOf => "part_of",
        ConnectedTo => "connected_to",
        Uses => "uses",
        BackedUpBy => "backed_up_by",
        ManagedBy => "managed_by",
    }
}

words! {
    InventoryFormat("inventory format") {
        Json => "json",
        Csv => "csv",
    }
}

words! {
    /// A preview says what a run would do, and does nothing.
    RunMode("mode") {
        Run => "run",
        Preview => "preview",
    }
}

words! {
    RunStatus("status of a run") {
        Queued => "queued",
        Running => "running",
        Succeeded => "succeeded",
        Failed => "failed",
    }
}

impl CiStatus {
    /// The status that an inventory means: its words are not ours, and what we do not know runs.
    pub fn from_inventory(word: &str) -> CiStatus {
        match word.trim().to_lowercase().replace([' ', '-'], "_").as_str() {
            "planned" | "ordered" | "staged" | "provisioning" => CiStatus::Planned,
            "maintenance" | "in_maintenance" | "repair" => CiStatus::Maintenance,
            "inactive" | "offline" | "stopped" | "off" | "poweredoff" | "powered_off" | "disabled"
            | "down" => CiStatus::Inactive,
            "retired" | "decommissioned" | "disposed" | "obsolete" => CiStatus::Retired,
            _ => CiStatus::Active,
        }
    }
}

/// Values that vendors write where an identity belongs; they identify nothing (two hundred machines with the serial
/// number "To be filled by O.E.M." are not one machine).
pub fn identifies(value: &str) -> bool {
    const PLACEHOLDERS: [&str; 24] = [
        "",
        "-",
        "--",
        ".",
        "0",
        "none",
        "null",
        "nil",
        "n/a",
        "na",
        "not available",
        "not applicable",
        "not specified",
        "unknown",
        "undefined",
        "default",
        "default string",
        "to be filled by o.e.m.",
        "to be filled by oem",
        "system serial number",
        "serial number",
        "invalid",
        "00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:ff",
    ];
    let value = value.trim().to_lowercase();
    let filler = |what: fn(char) -> bool| value.len() > 3 && value.chars().all(what);
    !PLACEHOLDERS.contains(&value.as_str())
        && !filler(|c| c == '0' || c == '-')
        && !filler(|c| c == 'x')
        && value != "123456789"
        && value != "1234567890"
        && value.chars().count() <= 500
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_identify_nothing() {
        for value in [
            "",
            " N/A ",
            "To Be Filled By O.E.M.",
            "0000000",
            "00000000-0000-0000-0000-000000000000",
            "XXXXXXX",
            "None",
        ] {
            assert!(!identifies(value), "{value:?}");
        }
        for value in ["SN-0001", "db1.example.com", "52:54:00:12:34:56", "7"] {
            assert!(identifies(value), "{value:?}");
        }
    }

    #[test]
    fn words_of_inventories_are_understood() {
        assert_eq!(CiStatus::from_inventory("In Maintenance"), CiStatus::Maintenance);
        assert_eq!(CiStatus::from_inventory("poweredOff"), CiStatus::Inactive);
        assert_eq!(CiStatus::from_inventory("running"), CiStatus::Active);
    }
}
