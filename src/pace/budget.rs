//! Whether too much went wrong to go on.

use crate::model::FailureBudget;

/// Whether more of the planned uploads failed than the budget has: as many as it has are no reason
/// to stop yet.
#[must_use]
pub fn exceeded(budget: FailureBudget, failed: u64, planned: u64) -> bool {
    match budget {
        FailureBudget::Count(most) => failed > most,
        FailureBudget::Share(share) => {
            let whole = u128::from(FailureBudget::WHOLE);
            u128::from(failed) * whole > u128::from(planned) * u128::from(share)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_exceeded_by_the_first_failure_that_it_does_not_have() {
        for (budget, planned, most) in [
            ("20", 1_000_000, 20),
            ("0", 5, 0),
            ("5%", 100, 5),
            ("5%", 119, 5),
            ("5%", 19, 0),
            ("0.25%", 4000, 10),
            ("100%", 7, 7),
            ("0%", 7, 0),
            ("50%", u64::MAX, u64::MAX / 2),
        ] {
            let read = FailureBudget::parse(budget).expect(budget);
            assert!(!exceeded(read, most, planned), "{budget} of {planned}");
            assert!(exceeded(read, most + 1, planned), "{budget} of {planned}");
        }
    }
}
