//! The workflow and schedules of the victim of the schedules' kill test.

use cloacina_engine::core::schedule::Catchup;
use cloacina_engine::runtime::schedules::NewSchedule;
use cloacina_engine::runtime::workflow::Workflow;

use crate::victim::SideEffects;

/// The workflow that the schedules start: a chain whose steps each leave a side effect.
#[must_use]
pub fn workflows(effects: &SideEffects) -> Vec<Workflow> {
    crate::victim::workflows(effects).into_iter().filter(|workflow| &**workflow.name() == "chain").collect()
}

/// The schedules: one fires every second, one every three seconds.
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
