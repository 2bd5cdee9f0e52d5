//! Impact × urgency → priority.

use crate::words::words;
use serde::{Deserialize, Serialize};

words! {
    /// Impact (how much is affected) and urgency (how soon it hurts) have the same three levels.
    Level("level") {
        High => "high",
        Medium => "medium",
        Low => "low",
    }
}

words! {
    Priority("priority") {
        Critical => "critical",
        High => "high",
        Medium => "medium",
        Low => "low",
    }
}

impl Priority {
    /// The next more pressing priority; `critical` stays what it is.
    pub fn raised(self) -> Priority {
        match self {
            Priority::Critical | Priority::High => Priority::Critical,
            Priority::Medium => Priority::High,
            Priority::Low => Priority::Medium,
        }
    }

    /// The more pressing of the two.
    pub fn higher(self, other: Priority) -> Priority {
        if self.rank() <= other.rank() { self } else { other }
    }

    /// 1 (critical) to 4 (low): for sorting, and because people say "a P1".
    pub fn rank(self) -> u8 {
        match self {
            Priority::Critical => 1,
            Priority::High => 2,
            Priority::Medium => 3,
            Priority::Low => 4,
        }
    }
}

/// The organization's table of priorities, one for every pair of impact and urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriorityMatrix {
    /// `[impact][urgency]`, each in the order high, medium, low.
    cells: [[Priority; 3]; 3],
}

impl Default for PriorityMatrix {
    /// The matrix of the ITIL books: the sum of the two ranks decides.
    fn default() -> Self {
        use Priority::{Critical, High, Low, Medium};
        PriorityMatrix { cells: [[Critical, High, Medium], [High, Medium, Low], [Medium, Low, Low]] }
    }
}

impl PriorityMatrix {
    pub fn priority(&self, impact: Level, urgency: Level) -> Priority {
        self.cells[impact as usize][urgency as usize]
    }

    pub fn set(&mut self, impact: Level, urgency: Level, priority: Priority) {
        self.cells[impact as usize][urgency as usize] = priority;
    }

    /// All nine cells as `(impact, urgency, priority)`.
    pub fn cells(&self) -> impl Iterator<Item = (Level, Level, Priority)> + '_ {
        Level::ALL.iter().flat_map(move |&impact| {
            Level::ALL.iter().map(move |&urgency| (impact, urgency, self.priority(impact, urgency)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_matrix_is_the_usual_one() {
        let matrix = PriorityMatrix::default();
        assert_eq!(matrix.priority(Level::High, Level::High), Priority::Critical);
        assert_eq!(matrix.priority(Level::High, Level::Low), Priority::Medium);
        assert_eq!(matrix.priority(Level::Low, Level::High), Priority::Medium);
        assert_eq!(matrix.priority(Level::Low, Level::Low), Priority::Low);
    }

    #[test]
    fn more_impact_or_urgency_never_lowers_the_default_priority() {
        let matrix = PriorityMatrix::default();
        for pair in Level::ALL.windows(2) {
            for &other in Level::ALL {
                assert!(matrix.priority(pair[0], other).rank() <= matrix.priority(pair[1], other).rank());
                assert!(matrix.priority(other, pair[0]).rank() <= matrix.priority(other, pair[1]).rank());
            }
        }
    }

    #[test]
    fn raising_ends_at_critical() {
        assert_eq!(Priority::Low.raised().raised().raised().raised(), Priority::Critical);
    }

    #[test]
    fn the_higher_is_the_more_pressing() {
        assert_eq!(Priority::Critical.higher(Priority::High), Priority::Critical);
        assert_eq!(Priority::Low.higher(Priority::Medium), Priority::Medium);
    }

    #[test]
    fn a_set_cell_is_found_again() {
        let mut matrix = PriorityMatrix::default();
        matrix.set(Level::Low, Level::High, Priority::Critical);
        assert_eq!(matrix.priority(Level::Low, Level::High), Priority::Critical);
        assert_eq!(matrix.cells().count(), 9);
    }

    #[test]
    fn words_survive_json() {
        let level: Level = serde_json::from_str("\"medium\"").unwrap();
        assert_eq!(level, Level::Medium);
        assert_eq!(serde_json::to_string(&Priority::Critical).unwrap(), "\"critical\"");
        let error = serde_json::from_str::<Priority>("\"urgent\"").unwrap_err();
        assert!(error.to_string().contains("critical, high, medium, low"), "{error}");
    }
}
