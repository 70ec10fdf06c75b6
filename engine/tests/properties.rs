//! Properties of random workflows under random schedules: the fold agrees with a slow model after each event, the
//! result does not depend on the schedule, and a crash after any append does not change it.

use crate::support::model::{Model, assert_agrees, assert_decided, assert_skip_reason};
use crate::support::observe::{Observation, assert_same, folded};
use crate::support::plan::plans;
use crate::support::simulate::Simulation;
use crate::support::story::request;
use crate::support::{ID, cases, library};
use cloacina_engine::core::decide::Command;
use cloacina_engine::core::event::{Event, ExecutionOptions};
use cloacina_engine::core::fold::fold;
use cloacina_engine::core::state::{Execution, Status};
use cloacina_engine::core::time::Millis;
use proptest::collection::vec;
use proptest::prelude::*;

/// Pauses, crashes, shuts down or cancels between two steps, depending on `choice`.
fn disturb(simulation: &mut Simulation<'_>, choice: u16) {
    let asked = request("a test", None);
    match choice % 64 {
        0 if simulation.state.status() == Status::Running => simulation.command(Command::Pause(asked)).unwrap(),
        _ if simulation.state.status() == Status::Paused && choice.is_multiple_of(3) => {
            simulation.command(Command::Unpause(asked)).unwrap();
        }
        1 | 2 => simulation.crash_after(simulation.log.len()),
        3 => {
            simulation.command(Command::Shutdown).unwrap();
            simulation.crash_after(simulation.log.len());
        }
        4 if choice % 256 == 4 => simulation.command(Command::Cancel(asked)).unwrap(),
        _ => {}
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn the_fold_agrees_with_the_slow_model_after_every_event(plan in plans(true), choices in vec(any::<u16>(), 0..60)) {
        let limits = choices.first().copied().unwrap_or(0);
        let options = ExecutionOptions {
            timeout: (limits.is_multiple_of(4)).then_some(Millis(9_000)),
            task_timeout: (limits.is_multiple_of(3)).then_some(Millis(1_200)),
            ..Simulation::options()
        };
        let mut simulation = Simulation::begin(&plan, options, usize::from(limits % 3) + 1);
        let graphs = library([&plan.graph]);
        let mut incremental: Option<Execution> = None;
        let mut folded_so_far = 0;
        let mut steps = choices.into_iter();
        loop {
            let events = simulation.events();
            for at in folded_so_far..events.len() {
                let model = |until| Model { definition: plan.graph.definition(), events: &events[..until], ticked: simulation.ticked };
                if let Event::TaskSkipped(skipped) = &events[at].event {
                    assert_skip_reason(&model(at), skipped);
                }
                incremental = Some(fold(incremental, ID, events[at], &graphs).unwrap());
                // Only a state that has processed its timers knows which retries are due. That one is compared below.
                let retries = events[..=at].iter().any(|recorded| matches!(&recorded.event, Event::TaskFailed(failed) if failed.retry_at.is_some()));
                if !retries && !matches!(events[at].event, Event::ContextWritten(_)) {
                    assert_agrees(&model(at + 1), incremental.as_ref().unwrap());
                }
            }
            folded_so_far = events.len();
            let model = Model { definition: plan.graph.definition(), events: &events, ticked: simulation.ticked };
            assert_agrees(&model, &simulation.state);
            assert_decided(&model);
            assert_same(&simulation.state, incremental.as_ref().unwrap(), simulation.now);
            let choice = steps.next().unwrap_or(0);
            if simulation.is_over() {
                let may_retry = simulation.state.status().is_retriable() && simulation.state.retries() < 2;
                if !may_retry || choice % 4 == 0 {
                    break;
                }
                simulation.is_healed = choice % 4 == 1;
                simulation.retry();
                continue;
            }
            if let Some(disturbance) = steps.next() {
                disturb(&mut simulation, disturbance);
            } else if simulation.state.status() == Status::Paused {
                simulation.command(Command::Unpause(request("a test", None))).unwrap();
            }
            simulation.step(choice);
        }
    }

    #[test]
    fn the_result_is_the_same_under_any_two_schedules(
        plan in plans(false),
        one in vec(any::<u16>(), 0..60),
        other in vec(any::<u16>(), 0..60),
        slots in 1..5_usize,
    ) {
        let mut results = [&one, &other].map(|choices| {
            let mut simulation = Simulation::begin(&plan, Simulation::options(), slots);
            simulation.run(choices);
            simulation.result()
        });
        let [left, right] = &mut results;
        prop_assert_eq!(left, right);
    }

    #[test]
    fn a_prefix_folds_on_to_the_whole(plan in plans(true), choices in vec(any::<u16>(), 0..60), cut in any::<prop::sample::Index>()) {
        let mut simulation = Simulation::begin(&plan, Simulation::options(), 3);
        simulation.run(&choices);
        let graphs = library([&plan.graph]);
        let events = simulation.events();
        let (before, after) = events.split_at(cut.index(events.len() - 1) + 1);
        let prefix = folded(before.iter().copied(), &graphs);
        let whole = after.iter().try_fold(prefix.clone(), |state, recorded| fold(Some(state), ID, recorded, &graphs)).unwrap();
        assert_same(&whole, &simulation.state, simulation.now);
        // Folding further events does not change earlier states, which a debugger keeps.
        prop_assert_eq!(Observation::of(&prefix), Observation::of(&folded(before.iter().copied(), &graphs)));
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn a_crash_after_any_append_changes_nothing(
        plan in plans(false),
        choices in vec(any::<u16>(), 0..40),
        afterwards in vec(any::<u16>(), 0..20),
    ) {
        let mut undisturbed = Simulation::begin(&plan, Simulation::options(), 2);
        undisturbed.run(&choices);
        let expected = undisturbed.result();
        for batches in 1..=undisturbed.log.len() {
            let mut crashed = undisturbed.clone();
            crashed.crash_after(batches);
            let at_once = crashed.log.len();
            // A second crash, immediately after the recovery or a little later.
            for more in [0, 1, 3] {
                let mut again = crashed.clone();
                again.run(&afterwards);
                again.crash_after(at_once.min(again.log.len()) + more.min(again.log.len().saturating_sub(at_once)));
                again.run(&[]);
                prop_assert_eq!(&again.result(), &expected);
                let completions = |name: &str| {
                    again.events().iter().filter(|recorded| {
                        matches!(&recorded.event, Event::TaskCompleted(body) if &*body.task == name)
                    }).count()
                };
                prop_assert!(plan.tasks.keys().all(|name| completions(name) <= 1));
            }
            crashed.run(&afterwards);
            prop_assert_eq!(&crashed.result(), &expected);
        }
    }
}
