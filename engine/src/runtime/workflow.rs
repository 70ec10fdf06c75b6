//! Workflows that can be run, and the registry that engines look them and triggers up in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::task::{Observer, Task, TaskBody};
use super::trigger::Trigger;
use crate::core::codec;
use crate::core::definition::{Definition, Fingerprint};
use crate::core::graph::{Graph, InvalidDefinition};

/// A workflow that can be run: a definition that was checked, and a body for each task.
pub struct Workflow {
    pub(crate) graph: Arc<Graph>,
    pub(crate) fingerprint: Fingerprint,
    /// The canonical encoding of its definition, which the fingerprint is the hash of.
    pub(crate) encoded: Arc<[u8]>,
    pub(crate) bodies: Vec<TaskBody>,
    pub(crate) observers: Vec<Option<Arc<Observer>>>,
}

impl Workflow {
    /// Checks a workflow.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn new(name: impl Into<Arc<str>>, tasks: impl IntoIterator<Item = Task>) -> Result<Self, InvalidDefinition> {
        let (mut definitions, mut bodies, mut observers) = (Vec::new(), Vec::new(), Vec::new());
        for task in tasks {
            definitions.push(task.definition);
            bodies.push(task.body);
            observers.push(task.observer);
        }
        let definition = Arc::new(Definition { workflow: name.into(), tasks: definitions });
        let encoded: Arc<[u8]> = codec::encode_definition(&definition).into();
        let fingerprint = Fingerprint(codec::sha256(&encoded));
        Ok(Self { graph: Arc::new(Graph::new(definition)?), fingerprint, encoded, bodies, observers })
    }

    /// The workflow that an execution began with, as the log remembers it: nothing can run its tasks.
    pub(crate) fn of_the_past(graph: &Arc<Graph>) -> Self {
        let encoded: Arc<[u8]> = codec::encode_definition(graph.definition()).into();
        let fingerprint = Fingerprint(codec::sha256(&encoded));
        let observers = graph.tasks().map(|_| None).collect();
        Self { graph: graph.clone(), fingerprint, encoded, bodies: Vec::new(), observers }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.graph.definition().workflow
    }

    /// Its graph, and with it its definition.
    #[must_use]
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The fingerprint of its definition.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

/// The workflows and triggers of a process, by name. Engines that share it see what is registered later, too.
#[derive(Default)]
pub struct Registry {
    entries: Mutex<Entries>,
}

/// Called when a workflow or a trigger is registered.
type Subscriber = Box<dyn Fn() -> bool + Send>;

#[derive(Default)]
struct Entries {
    workflows: BTreeMap<Arc<str>, Arc<Workflow>>,
    triggers: BTreeMap<Arc<str>, Arc<Trigger>>,
    subscribers: Vec<Subscriber>,
}

impl Registry {
    /// Registers a workflow under its name, in place of an earlier one. Executions that run go on with what they began.
    pub fn register(&self, workflow: Workflow) -> Arc<Workflow> {
        let workflow = Arc::new(workflow);
        let mut entries = self.entries();
        entries.workflows.insert(workflow.name().clone(), workflow.clone());
        entries.subscribers.retain(|subscriber| subscriber());
        workflow
    }

    /// Forgets a workflow. Returns whether it was there.
    pub fn unregister(&self, name: &str) -> bool {
        self.entries().workflows.remove(name).is_some()
    }

    /// The workflow with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Workflow>> {
        self.entries().workflows.get(name).cloned()
    }

    /// Registers a trigger under its name, in place of an earlier one. Every engine with this registry polls it.
    pub fn register_trigger(&self, trigger: Trigger) {
        let mut entries = self.entries();
        entries.triggers.insert(trigger.name().clone(), Arc::new(trigger));
        entries.subscribers.retain(|subscriber| subscriber());
    }

    /// Forgets a trigger: it is polled no more. Returns whether it was there.
    pub fn unregister_trigger(&self, name: &str) -> bool {
        let mut entries = self.entries();
        let was_there = entries.triggers.remove(name).is_some();
        entries.subscribers.retain(|subscriber| subscriber());
        was_there
    }

    /// Forgets everything: whoever keeps a registry after its engine is shut down keeps no function alive with it.
    pub fn clear(&self) {
        let entries = std::mem::take(&mut *self.entries());
        // Dropped without the lock: a task's body may hold anything.
        drop(entries);
    }

    /// Every trigger, in the order of the names.
    pub(crate) fn triggers(&self) -> Vec<Arc<Trigger>> {
        self.entries().triggers.values().cloned().collect()
    }

    /// Every name, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        self.entries().workflows.keys().cloned().collect()
    }

    /// Calls `subscriber` whenever something is registered, as long as it returns `true`.
    pub(crate) fn subscribe(&self, subscriber: Subscriber) {
        self.entries().subscribers.push(subscriber);
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
