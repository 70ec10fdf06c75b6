//! Runnable workflows, and the registry of workflows and triggers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::task::{Observer, Task, TaskBody};
use super::trigger::Trigger;
use crate::core::codec;
use crate::core::definition::{Definition, Fingerprint};
use crate::core::graph::{Graph, InvalidDefinition};

/// A runnable workflow: a checked definition, and a body for each task.
pub struct Workflow {
    pub(crate) graph: Arc<Graph>,
    pub(crate) fingerprint: Fingerprint,
    /// The canonical encoding of its definition; the fingerprint is its hash.
    pub(crate) encoded: Arc<[u8]>,
    pub(crate) bodies: Vec<TaskBody>,
    pub(crate) observers: Vec<Option<Arc<Observer>>>,
}

impl Workflow {
    /// Creates a workflow and checks its definition.
    ///
    /// # Errors
    /// [`InvalidDefinition`] with all problems.
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

    /// A workflow from a definition in the log. Its tasks cannot run.
    pub(crate) fn from_log(graph: &Arc<Graph>) -> Self {
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

    /// Its graph, which includes its definition.
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

/// The workflows and triggers of a process, by name. Engines that share it also see later registrations.
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
    /// Registers a workflow under its name, replacing an earlier one. Running executions keep the workflow that they
    /// started with.
    pub fn register(&self, workflow: Workflow) -> Arc<Workflow> {
        let workflow = Arc::new(workflow);
        let mut entries = self.entries();
        entries.workflows.insert(workflow.name().clone(), workflow.clone());
        entries.subscribers.retain(|subscriber| subscriber());
        workflow
    }

    /// Removes a workflow. Returns whether it was registered.
    pub fn unregister(&self, name: &str) -> bool {
        self.entries().workflows.remove(name).is_some()
    }

    /// The workflow with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Workflow>> {
        self.entries().workflows.get(name).cloned()
    }

    /// Registers a trigger under its name, replacing an earlier one. Every engine with this registry polls it.
    pub fn register_trigger(&self, trigger: Trigger) {
        let mut entries = self.entries();
        entries.triggers.insert(trigger.name().clone(), Arc::new(trigger));
        entries.subscribers.retain(|subscriber| subscriber());
    }

    /// Removes a trigger: it is no longer polled. Returns whether it was registered.
    pub fn unregister_trigger(&self, name: &str) -> bool {
        let mut entries = self.entries();
        let was_there = entries.triggers.remove(name).is_some();
        entries.subscribers.retain(|subscriber| subscriber());
        was_there
    }

    /// Removes everything, so that a registry that outlives its engine keeps no functions alive.
    pub fn clear(&self) {
        let entries = std::mem::take(&mut *self.entries());
        // Dropped without the lock: a task's body may hold anything.
        drop(entries);
    }

    /// All triggers, sorted by name.
    pub(crate) fn triggers(&self) -> Vec<Arc<Trigger>> {
        self.entries().triggers.values().cloned().collect()
    }

    /// The names of all workflows, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        self.entries().workflows.keys().cloned().collect()
    }

    /// Calls `subscriber` whenever something is registered, until it returns `false`.
    pub(crate) fn subscribe(&self, subscriber: Subscriber) {
        self.entries().subscribers.push(subscriber);
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
