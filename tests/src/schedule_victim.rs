//! What the victim of the schedules' kill test runs.

use cloacina_engine::core::schedule::Catchup;
use cloacina_engine::runtime::schedules::NewSchedule;
use cloacina_engine::runtime::workflow::Workflow;

use crate::victim::SideEffects;

/// The workflow that the schedules start: a chain, each step of which leaves a side effect.
#[must_use]
pub fn workflows(effects: &SideEffects) -> Vec<Workflow> {
    crate::victim::workflows(effects).into_iter().filter(|workflow| &**workflow.name() == "chain").collect()
}

/// The schedules: one that fires each second, and one that fires every third.
#[must_use]
pub fn schedules() -> Vec<NewSchedule> {
    let every = |expression: &str| NewSchedule {
        name: None,
        workflow: "chain".into(),
        expression: expression.to_owned(),
        timezone: "America/New_York".into(),
        catchup: Catchup::RunAll,
        input: crate::victim::input(3),
    };
    vec![every("* * * * * *"), every("*/3 * * * * *")]
}
