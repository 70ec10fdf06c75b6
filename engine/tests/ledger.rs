//! Property test: a scope of a ledger shows the same as if each task had its own map of the context.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::support::cases;
use crate::support::term::{TermArena, Terms};
use cloacina_engine::core::context::{Context, Joins, Ledger, Scope, VersionRef};
use cloacina_engine::core::event::{Key, Seq, TaskId};
use cloacina_engine::core::json::Json;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A random task: its dependencies, what it writes, whether it also writes many keys at once, how early it completes,
/// and how many unrelated commits come just before.
#[derive(Clone, Debug)]
struct Planned {
    after: Vec<u8>,
    writes: Vec<(u8, u8)>,
    writes_many: bool,
    early: u8,
    noise: usize,
    sees_noise: bool,
}

fn planned() -> impl Strategy<Value = Planned> {
    let noise = prop_oneof![12 => Just(0_usize), 2 => 1..20_usize, 1 => 400..600_usize];
    let after = vec(any::<u8>(), 0..4);
    let writes = (vec((0..MANY.start + 3, 0..9_u8), 0..4), prop::bool::weighted(0.15));
    let noise = (noise, prop::bool::weighted(0.2));
    (after, writes, any::<u8>(), noise).prop_map(|(after, (writes, writes_many), early, (noise, sees_noise))| Planned {
        after,
        writes,
        writes_many,
        early,
        noise,
        sees_noise,
    })
}

/// The keys that some tasks write all at once. There are enough of them for a join to look only at new commits.
const MANY: std::ops::Range<u8> = 7..40;

impl Planned {
    fn writes(&self) -> Vec<(u8, u8)> {
        let many = MANY.filter(|_| self.writes_many).map(|key| (key, self.early));
        many.chain(self.writes.iter().copied()).collect()
    }

    /// Its dependencies among the first `before` tasks; each once, in the order of the list.
    fn dependencies(&self, before: usize) -> Vec<usize> {
        let mut known = BTreeSet::new();
        let after = self.after.iter().filter(|_| before > 0).map(|at| before - 1 - usize::from(*at) % before.min(9));
        after.filter(|at| known.insert(*at)).collect()
    }
}

/// Some keys only ever hold numbers, others lists as well.
fn value(key: u8, number: u8) -> Option<Json> {
    match (key, number % 4) {
        (_, 0) => None,
        (0..4, plain) => Some(Json::from(json!(plain))),
        _ if number < 4 => Some(Json::from(json!(number))),
        _ => Some(Json::from(json!([number, "x"]))),
    }
}

/// A completed task.
struct CompletedTask {
    gives: Scope,
    /// The same context as a map of its own.
    map: BTreeMap<Key, VersionRef>,
    /// The same context in the model, without the noise.
    terms: Terms,
}

#[derive(Default)]
struct World {
    ledger: Arc<Ledger>,
    joins: Joins,
    arena: TermArena,
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

    fn run(&mut self, name: &str, task: &Planned, upstream: &[&CompletedTask]) -> CompletedTask {
        self.make_noise(task.noise);
        let noise = CompletedTask { gives: self.noise.clone(), map: map(&self.seen(&self.noise)), terms: Terms::new() };
        let mut branches = upstream.to_vec();
        branches.extend(Some(&noise).filter(|_| task.sees_noise));

        let scopes: Vec<&Scope> = branches.iter().map(|done| &done.gives).collect();
        let joined = self.joins.join(&self.ledger, &scopes);
        // The same join with everything off-chain and an empty ledger, so that each context is a map of its own.
        let maps: Vec<Scope> = branches.iter().map(|done| Scope::from_iter(done.map.clone())).collect();
        let plain = self.joins.join(&Ledger::default(), &maps.iter().collect::<Vec<_>>());
        assert_eq!(joined.collisions, plain.collisions, "what collides at {name}");
        let plain = map(&Context::new(Arc::default(), plain.scope));
        assert_eq!(map(&self.seen(&joined.scope)), plain, "what {name} sees");
        let mut terms = self.arena.join(&branches.iter().map(|done| done.terms.clone()).collect::<Vec<_>>());

        let (mut map_after, mut writes) = (plain, Vec::new());
        for (key, number) in task.writes() {
            self.seq += 1;
            let value = value(key, number);
            let key: Key = format!("key{key}").as_str().into();
            let over = terms.get(&*key).copied();
            let term = self.arena.write(self.seq, Some(name.to_owned()), value.as_ref(), over);
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
        CompletedTask { gives, map: map_after, terms }
    }

    fn assert_as_modelled(&self, done: &CompletedTask) {
        let context = self.seen(&done.gives);
        assert_eq!(map(&context), done.map, "later commits are not visible");
        assert!(done.map.iter().all(|(key, version)| context.get(key) == Some(version)));
        if self.arena.ambiguous {
            return;
        }
        let actual = done.map.iter().filter(|(key, _)| key.starts_with("key"));
        let actual: BTreeMap<String, (Option<Value>, BTreeSet<Seq>)> = actual
            .map(|(key, version)| {
                (key.to_string(), (version.value().map(Json::value), version.writes().into_iter().collect()))
            })
            .collect();
        let expected = done.terms.iter();
        let expected =
            expected.map(|(key, term)| (key.clone(), (self.arena.value(*term).cloned(), self.arena.sources(*term))));
        assert_eq!(actual, expected.collect());
    }

    fn assert_differing(&self, one: &CompletedTask, other: &CompletedTask) {
        let differing = self.seen(&one.gives).differing(&self.seen(&other.gives));
        assert!(differing.is_sorted() && differing.windows(2).all(|pair| pair[0] != pair[1]));
        let keys: BTreeSet<&Key> = one.map.keys().chain(other.map.keys()).collect();
        for key in keys.into_iter().filter(|key| one.map.get(*key) != other.map.get(*key)) {
            assert!(differing.contains(key), "{key} differs");
        }
    }
}

fn map(context: &Context) -> BTreeMap<Key, VersionRef> {
    context.iter().map(|(key, version)| (key.clone(), version.clone())).collect()
}

/// Returns an order of completion: among the tasks that could be next, always the earliest one.
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
        let mut done: BTreeMap<usize, CompletedTask> = BTreeMap::new();
        for at in order(&plan) {
            let upstream: Vec<&CompletedTask> = plan[at].dependencies(at).iter().map(|up| &done[up]).collect();
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
