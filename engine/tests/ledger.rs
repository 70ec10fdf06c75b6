//! What is seen in a scope of a ledger is what each task would see if it had a map of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::support::cases;
use crate::support::term::{Heap, Terms};
use cloacina_engine::core::context::{Context, Joins, Ledger, Scope, VersionRef};
use cloacina_engine::core::event::{Key, Seq, TaskId};
use cloacina_engine::core::json::Json;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A task: which of those before it it comes after, what it writes, whether it also writes to each of many keys, how
/// early it is done, and how much others write just before.
#[derive(Clone, Debug)]
struct Planned {
    after: Vec<u8>,
    writes: Vec<(u8, u8)>,
    writes_many: bool,
    early: u8,
    noise: usize,
    hears_noise: bool,
}

fn planned() -> impl Strategy<Value = Planned> {
    let noise = prop_oneof![12 => Just(0_usize), 2 => 1..20_usize, 1 => 400..600_usize];
    let after = vec(any::<u8>(), 0..4);
    let writes = (vec((0..MANY.start + 3, 0..9_u8), 0..4), prop::bool::weighted(0.15));
    let noise = (noise, prop::bool::weighted(0.2));
    (after, writes, any::<u8>(), noise).prop_map(|(after, (writes, writes_many), early, (noise, hears_noise))| {
        Planned { after, writes, writes_many, early, noise, hears_noise }
    })
}

/// The keys that some tasks write all at once: there are enough of them for a join to go by what is new.
const MANY: std::ops::Range<u8> = 7..40;

impl Planned {
    fn writes(&self) -> Vec<(u8, u8)> {
        let many = MANY.filter(|_| self.writes_many).map(|key| (key, self.early));
        many.chain(self.writes.iter().copied()).collect()
    }

    /// The tasks among the `before` ones that it comes after; each once, in the order of the list.
    fn dependencies(&self, before: usize) -> Vec<usize> {
        let mut known = BTreeSet::new();
        let after = self.after.iter().filter(|_| before > 0).map(|at| before - 1 - usize::from(*at) % before.min(9));
        after.filter(|at| known.insert(*at)).collect()
    }
}

/// Some keys only ever have numbers, others lists as well.
fn value(key: u8, number: u8) -> Option<Json> {
    match (key, number % 4) {
        (_, 0) => None,
        (0..4, plain) => Some(Json::from(json!(plain))),
        _ if number < 4 => Some(Json::from(json!(number))),
        _ => Some(Json::from(json!([number, "x"]))),
    }
}

/// A task that is done.
struct Done {
    gives: Scope,
    /// The same, as a map of its own.
    map: BTreeMap<Key, VersionRef>,
    /// The same, in the model. What was written as noise is not in it.
    terms: Terms,
}

#[derive(Default)]
struct World {
    ledger: Arc<Ledger>,
    joins: Joins,
    heap: Heap,
    seq: Seq,
    noise: Scope,
}

impl World {
    fn seen(&self, scope: &Scope) -> Context {
        Context::new(self.ledger.clone(), scope.clone())
    }

    fn make_noise(&mut self, commits: usize) {
        let nobody: TaskId = "noise".into();
        for _ in 0..commits {
            self.seq += 1;
            let write = (format!("noise{:05}", self.seq).as_str().into(), value(0, 1), self.seq);
            self.noise = Arc::make_mut(&mut self.ledger).commit(&self.noise, Some(&nobody), [write]);
        }
    }

    fn run(&mut self, name: &str, task: &Planned, upstream: &[&Done]) -> Done {
        self.make_noise(task.noise);
        let noise = Done { gives: self.noise.clone(), map: map(&self.seen(&self.noise)), terms: Terms::new() };
        let mut branches = upstream.to_vec();
        branches.extend(Some(&noise).filter(|_| task.hears_noise));

        let scopes: Vec<&Scope> = branches.iter().map(|done| &done.gives).collect();
        let joined = self.joins.join(&self.ledger, &scopes);
        // Everything apart, nothing in a ledger: each context is a map of its own.
        let maps: Vec<Scope> = branches.iter().map(|done| Scope::from_iter(done.map.clone())).collect();
        let plain = self.joins.join(&Ledger::default(), &maps.iter().collect::<Vec<_>>());
        assert_eq!(joined.collisions, plain.collisions, "what collides at {name}");
        let plain = map(&Context::new(Arc::default(), plain.scope));
        assert_eq!(map(&self.seen(&joined.scope)), plain, "what {name} sees");
        let mut terms = self.heap.join(&branches.iter().map(|done| done.terms.clone()).collect::<Vec<_>>());

        let (mut map_after, mut writes) = (plain, Vec::new());
        for (key, number) in task.writes() {
            self.seq += 1;
            let value = value(key, number);
            let key: Key = format!("key{key}").as_str().into();
            let over = terms.get(&*key).copied();
            let term = self.heap.write(self.seq, Some(name.to_owned()), value.as_ref(), over);
            terms.insert(key.to_string(), term);
            writes.push((key, value, self.seq));
        }
        let writer: TaskId = name.into();
        let gives = Arc::make_mut(&mut self.ledger).commit(&joined.scope, Some(&writer), writes.clone());
        let context = self.seen(&gives);
        for (key, _, seq) in writes {
            let version = context.get(&key).unwrap();
            assert_eq!(self.ledger.latest(&key).unwrap(), version);
            assert!(version.writes()[0] >= seq);
            map_after.insert(key, version.clone());
        }
        assert_eq!(map(&context), map_after, "what {name} gives");
        Done { gives, map: map_after, terms }
    }

    fn assert_as_modelled(&self, done: &Done) {
        let context = self.seen(&done.gives);
        assert_eq!(map(&context), done.map, "what took effect later is not seen");
        assert!(done.map.iter().all(|(key, version)| context.get(key) == Some(version)));
        if self.heap.ambiguous {
            return;
        }
        let told = done.map.iter().filter(|(key, _)| key.starts_with("key"));
        let told: BTreeMap<String, (Option<Value>, BTreeSet<Seq>)> = told
            .map(|(key, version)| {
                (key.to_string(), (version.value().map(Json::value), version.writes().into_iter().collect()))
            })
            .collect();
        let modelled = done.terms.iter();
        let modelled =
            modelled.map(|(key, term)| (key.clone(), (self.heap.value(*term).cloned(), self.heap.sources(*term))));
        assert_eq!(told, modelled.collect());
    }

    fn assert_differing(&self, one: &Done, other: &Done) {
        let differing = self.seen(&one.gives).differing(&self.seen(&other.gives));
        assert!(differing.is_sorted() && differing.windows(2).all(|pair| pair[0] != pair[1]));
        let keys: BTreeSet<&Key> = one.map.keys().chain(other.map.keys()).collect();
        for key in keys.into_iter().filter(|key| one.map.get(*key) != other.map.get(*key)) {
            assert!(differing.contains(key), "{key} is another one");
        }
    }
}

fn map(context: &Context) -> BTreeMap<Key, VersionRef> {
    context.iter().map(|(key, version)| (key.clone(), version.clone())).collect()
}

/// Puts the tasks in an order of completion: of those that could be next, always the earliest.
fn order(plan: &[Planned]) -> Vec<usize> {
    let mut order = Vec::new();
    while order.len() < plan.len() {
        let next = (0..plan.len()).filter(|at| !order.contains(at));
        let next = next.filter(|at| plan[*at].dependencies(*at).iter().all(|up| order.contains(up)));
        order.push(next.min_by_key(|at| (plan[*at].early, *at)).unwrap());
    }
    order
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn a_scope_shows_what_a_map_of_its_own_would(plan in vec(planned(), 1..40)) {
        let mut world = World::default();
        let mut done: BTreeMap<usize, Done> = BTreeMap::new();
        for at in order(&plan) {
            let upstream: Vec<&Done> = plan[at].dependencies(at).iter().map(|up| &done[up]).collect();
            let task = world.run(&format!("task{at}"), &plan[at], &upstream);
            done.insert(at, task);
        }
        done.values().for_each(|task| world.assert_as_modelled(task));
        for (one, other) in done.values().zip(done.values().skip(1)) {
            world.assert_differing(one, other);
            world.assert_differing(other, one);
        }
    }
}
