//! The three-way merge of two values that branches wrote independently.
//!
//! | the branches have | the result |
//! |---|---|
//! | one value that equals the base | the other value |
//! | lists | the base with the removals and additions of both, those of `ours` first |
//! | objects | merged key by key |
//! | the same value | that value |
//! | anything else | `theirs`, and a collision |

use serde_json::{Map, Value};

/// The result of a merge.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// The value; `None` if there is none.
    pub value: Option<Value>,
    /// Whether the branches made conflicting changes; `theirs` was taken.
    pub collision: bool,
}

/// Merges `ours` (the branch earlier in the `dependencies` list) and `theirs` (the later one) against their common
/// base. `None` is a value that was never written, or was removed.
#[must_use]
pub fn three_way(base: Option<&Value>, ours: Option<&Value>, theirs: Option<&Value>) -> Merged {
    let clean = |value: Option<&Value>| Merged { value: value.cloned(), collision: false };
    if theirs == base {
        return clean(ours);
    }
    if ours == base {
        return clean(theirs);
    }
    match (ours, theirs) {
        (Some(Value::Array(left)), Some(Value::Array(right))) => match base {
            Some(Value::Array(start)) => {
                Merged { value: Some(Value::Array(merge_lists(start, left, right))), collision: false }
            }
            // Both created the same list without a base, so neither added to the other's.
            _ if left == right => clean(ours),
            _ => Merged { value: Some(Value::Array(merge_lists(&[], left, right))), collision: false },
        },
        (Some(Value::Object(left)), Some(Value::Object(right))) => {
            let nothing = Map::new();
            let start = if let Some(Value::Object(start)) = base { start } else { &nothing };
            merge_objects(start, left, right)
        }
        _ if ours == theirs => clean(ours),
        _ => Merged { value: theirs.cloned(), collision: true },
    }
}

/// Merges key by key: first the keys of the base, then those that `ours` added, then those that `theirs` added.
fn merge_objects(base: &Map<String, Value>, ours: &Map<String, Value>, theirs: &Map<String, Value>) -> Merged {
    let mut result = Map::new();
    let mut collision = false;
    let added = ours.keys().filter(|key| !base.contains_key(*key));
    let added_later = theirs.keys().filter(|key| !base.contains_key(*key) && !ours.contains_key(*key));
    for key in base.keys().chain(added).chain(added_later) {
        let merged = three_way(base.get(key), ours.get(key), theirs.get(key));
        collision |= merged.collision;
        if let Some(value) = merged.value {
            result.insert(key.clone(), value);
        }
    }
    Merged { value: Some(Value::Object(result)), collision }
}

/// Applies the removals and additions of both branches to the base. At the same position, additions of `ours` come
/// first.
fn merge_lists(base: &[Value], ours: &[Value], theirs: &[Value]) -> Vec<Value> {
    let (left, right) = (ListChange::between(base, ours), ListChange::between(base, theirs));
    let mut result = Vec::with_capacity(ours.len().max(theirs.len()));
    for gap in 0..=base.len() {
        result.extend(left.added[gap].iter().chain(&right.added[gap]).map(|value| (*value).clone()));
        if gap < base.len() && left.kept[gap] && right.kept[gap] {
            result.push(base[gap].clone());
        }
    }
    result
}

/// How a branch changed a list.
struct ListChange<'a> {
    /// For each element of the base, whether the branch still has it.
    kept: Vec<bool>,
    /// The elements that it added before each element of the base, and at the end.
    added: Vec<Vec<&'a Value>>,
}

/// Above this product of lengths, the changed middle of a list counts as replaced. This bounds the work for any input.
const MAX_COMPARISONS: usize = 1_000_000;

impl<'a> ListChange<'a> {
    fn between(base: &[Value], branch: &'a [Value]) -> Self {
        let prefix = base.iter().zip(branch).take_while(|(left, right)| left == right).count();
        let rest = base.len().min(branch.len()) - prefix;
        let suffix =
            base.iter().rev().zip(branch.iter().rev()).take(rest).take_while(|(left, right)| left == right).count();
        let (old, new) = (&base[prefix..base.len() - suffix], &branch[prefix..branch.len() - suffix]);
        let common =
            if old.len() * new.len() <= MAX_COMPARISONS { longest_common_subsequence(old, new) } else { Vec::new() };

        let mut change = Self { kept: vec![true; base.len()], added: vec![Vec::new(); base.len() + 1] };
        change.kept[prefix..prefix + old.len()].fill(false);
        let mut next = 0;
        for (at_old, at_new) in common {
            change.kept[prefix + at_old] = true;
            change.added[prefix + at_old].extend(&new[next..at_new]);
            next = at_new + 1;
        }
        change.added[prefix + old.len()].extend(&new[next..]);
        change
    }
}

/// Returns the pairs of positions of a longest common subsequence.
fn longest_common_subsequence(old: &[Value], new: &[Value]) -> Vec<(usize, usize)> {
    let width = new.len() + 1;
    let mut length = vec![0_u32; (old.len() + 1) * width];
    for row in (0..old.len()).rev() {
        for column in (0..new.len()).rev() {
            length[row * width + column] = if old[row] == new[column] {
                length[(row + 1) * width + column + 1] + 1
            } else {
                length[(row + 1) * width + column].max(length[row * width + column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut pairs = Vec::new();
    while row < old.len() && column < new.len() {
        if old[row] == new[column] {
            pairs.push((row, column));
            (row, column) = (row + 1, column + 1);
        } else if length[(row + 1) * width + column] >= length[row * width + column + 1] {
            row += 1;
        } else {
            column += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(base: Value, ours: Value, theirs: Value) -> (Value, bool) {
        let result = three_way(Some(&base), Some(&ours), Some(&theirs));
        (result.value.unwrap_or(Value::Null), result.collision)
    }

    #[test]
    fn two_branches_that_append_to_a_list_both_keep_their_elements() {
        assert_eq!(merged(json!(["a"]), json!(["a", "b"]), json!(["a", "c"])), (json!(["a", "b", "c"]), false));
        assert_eq!(merged(json!([]), json!(["x"]), json!(["x"])), (json!(["x", "x"]), false));
    }

    #[test]
    fn a_removal_in_one_branch_and_an_addition_in_the_other_both_hold() {
        assert_eq!(merged(json!([1, 2, 3]), json!([1, 3]), json!([1, 2, 3, 4])), (json!([1, 3, 4]), false));
        assert_eq!(merged(json!([2]), json!([1, 2]), json!([2, 3])), (json!([1, 2, 3]), false));
        assert_eq!(merged(json!([1, 1]), json!([1]), json!([1, 1, 1])), (json!([1, 1]), false));
    }

    #[test]
    fn objects_merge_key_by_key_and_only_the_same_key_collides() {
        assert_eq!(
            merged(json!({"n": 0}), json!({"n": 0, "a": 1}), json!({"n": 0, "b": 2})),
            (json!({"n": 0, "a": 1, "b": 2}), false)
        );
        assert_eq!(merged(json!({"n": 0}), json!({"n": 1}), json!({"n": 2})), (json!({"n": 2}), true));
        assert_eq!(merged(json!({"n": 0, "m": 0}), json!({"m": 0}), json!({"n": 0, "m": 1})), (json!({"m": 1}), false));
    }

    #[test]
    fn a_branch_that_left_the_base_alone_never_wins() {
        assert_eq!(merged(json!(1), json!(2), json!(1)), (json!(2), false));
        assert_eq!(three_way(Some(&json!(1)), None, Some(&json!(1))).value, None);
    }

    #[test]
    fn anything_else_takes_the_later_branch_and_says_so() {
        assert_eq!(merged(json!(1), json!(2), json!(3)), (json!(3), true));
        assert_eq!(merged(json!(1), json!(2), json!(2)), (json!(2), false));
        assert_eq!(merged(json!([1]), json!("a"), json!([1, 2])), (json!([1, 2]), true));
    }

    #[test]
    fn lists_made_from_nothing_are_put_together_unless_they_are_the_same() {
        let list = |value: Value| three_way(None, Some(&json!(["a"])), Some(&value)).value;
        assert_eq!(list(json!(["b"])), Some(json!(["a", "b"])));
        assert_eq!(list(json!(["a"])), Some(json!(["a"])));
    }

    #[test]
    fn a_huge_list_that_changed_in_the_middle_still_merges_in_bounded_time() {
        let base: Vec<u32> = (0..20_000).collect();
        let ours: Vec<u32> = (1_000_000..1_020_000).collect();
        let mut theirs = base.clone();
        theirs.push(7);
        let (value, collision) = merged(json!(base), json!(ours), json!(theirs));
        assert!(!collision);
        assert_eq!(value.as_array().map(Vec::len), Some(20_001));
    }
}
