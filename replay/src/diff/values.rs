//! Comparison of two JSON values. Each difference has a path of keys and indices.

use cloacina_engine::core::event::Key;
use cloacina_engine::core::json::Json;
use serde_json::Value;

/// How many differences of one key are kept; further ones are only counted.
const KEPT: usize = 20;

/// A key whose values differ.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyDiff {
    /// The key.
    pub key: Key,
    /// Its value in A; `None` if the key is missing.
    pub a: Option<Json>,
    /// Its value in B.
    pub b: Option<Json>,
    /// The first twenty differences, in order.
    pub places: Vec<Place>,
    /// The number of further differences.
    pub more: u64,
}

/// A difference at one path of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The path, beginning with the key: `rows[0].price`.
    pub path: String,
    /// The value at the path in A; `None` if A has no such path.
    pub a: Option<Json>,
    /// The value at the path in B.
    pub b: Option<Json>,
}

/// Compares the values of a key. Returns `None` if they are equal. The order of an object's keys and white space are
/// ignored; `1` and `1.0` are different.
///
/// ```
/// use cloacina_engine::core::json::Json;
/// use cloacina_replay::diff::values::compare;
/// let (a, b) = (Json::parse(r#"[{"price": 1}]"#)?, Json::parse(r#"[{"price": 2}]"#)?);
/// let diff = compare(&"rows".into(), Some(&a), Some(&b)).unwrap();
/// assert_eq!(diff.places[0].path, "rows[0].price");
/// # Ok::<(), cloacina_engine::core::json::NotJson>(())
/// ```
#[must_use]
pub fn compare(key: &Key, a: Option<&Json>, b: Option<&Json>) -> Option<KeyDiff> {
    // Whether two erased values were equal is unknown, so they count as different.
    if a == b && !a.is_some_and(Json::is_erased) {
        return None;
    }
    let mut found = Comparison { places: Vec::new(), count: 0 };
    let path = name(key);
    match (a.map(Json::try_value), b.map(Json::try_value)) {
        (Some(Some(one)), Some(Some(other))) => found.compare(&path, &one, &other),
        // A value that is missing on one side, or nested too deep to be parsed, differs as a whole.
        _ => found.note(path, a.cloned(), b.cloned()),
    }
    let more = found.count - found.places.len() as u64;
    let diff = KeyDiff { key: key.clone(), a: a.cloned(), b: b.cloned(), places: found.places, more };
    (found.count > 0).then_some(diff)
}

/// The differences found so far.
struct Comparison {
    places: Vec<Place>,
    count: u64,
}

impl Comparison {
    fn note(&mut self, path: String, a: Option<Json>, b: Option<Json>) {
        self.count += 1;
        self.places.push(Place { path, a, b });
    }

    fn note_value(&mut self, path: impl FnOnce() -> String, a: Option<&Value>, b: Option<&Value>) {
        if self.places.len() < KEPT {
            self.note(path(), a.map(Json::from), b.map(Json::from));
        } else {
            self.count += 1;
        }
    }

    /// Recursion is safe: the parser limits the nesting of values.
    fn compare(&mut self, path: &str, a: &Value, b: &Value) {
        match (a, b) {
            _ if a == b => {}
            (Value::Object(one), Value::Object(other)) => {
                for (key, value) in one {
                    let within = || format!("{path}{}", member(key));
                    match other.get(key) {
                        Some(there) if value == there => {}
                        Some(there) => self.compare(&within(), value, there),
                        None => self.note_value(within, Some(value), None),
                    }
                }
                for (key, value) in other.iter().filter(|(key, _)| !one.contains_key(*key)) {
                    self.note_value(|| format!("{path}{}", member(key)), None, Some(value));
                }
            }
            (Value::Array(one), Value::Array(other)) => self.compare_lists(path, one, other),
            _ => self.note_value(|| path.to_owned(), Some(a), Some(b)),
        }
    }

    /// Skips the common prefix and suffix, so that an inserted or removed element is one difference. Compares the rest
    /// by index.
    fn compare_lists(&mut self, path: &str, a: &[Value], b: &[Value]) {
        let begin = a.iter().zip(b).take_while(|(one, other)| one == other).count();
        let (a, b) = (&a[begin..], &b[begin..]);
        let end = a.iter().rev().zip(b.iter().rev()).take_while(|(one, other)| one == other).count();
        let (a, b) = (&a[..a.len() - end], &b[..b.len() - end]);
        for place in 0..a.len().max(b.len()) {
            let within = || format!("{path}[{}]", begin + place);
            match (a.get(place), b.get(place)) {
                (Some(one), Some(other)) => self.compare(&within(), one, other),
                (one, other) => self.note_value(within, one, other),
            }
        }
    }
}

/// Returns a key as the first step of a path.
fn name(key: &str) -> String {
    if is_plain(key) { key.to_owned() } else { format!("[{}]", Value::from(key)) }
}

/// Returns the step of a path to a member of an object.
fn member(key: &str) -> String {
    if is_plain(key) { format!(".{key}") } else { format!("[{}]", Value::from(key)) }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

    use super::*;

    fn places(a: &str, b: &str) -> Vec<String> {
        let (a, b) = (Json::parse(a).unwrap(), Json::parse(b).unwrap());
        let diff = compare(&"k".into(), Some(&a), Some(&b));
        let text = |side: &Option<Json>| side.as_ref().map_or("-".to_owned(), ToString::to_string);
        let places = diff.iter().flat_map(|diff| &diff.places);
        places.map(|place| format!("{}: {} {}", place.path, text(&place.a), text(&place.b))).collect()
    }

    #[test]
    fn the_path_leads_to_what_differs() {
        assert_eq!(places(r#"{"a": [1, {"b c": 2}]}"#, r#"{"a": [1, {"b c": 3}]}"#), [r#"k.a[1]["b c"]: 2 3"#]);
        assert_eq!(places(r#"{"a": 1}"#, r#"{"b": 1}"#), ["k.a: 1 -", "k.b: - 1"]);
        assert_eq!(places("1", "1.0"), ["k: 1 1.0"]);
        assert_eq!(places("[1]", r#"{"0": 1}"#), [r#"k: [1] {"0":1}"#]);
    }

    #[test]
    fn an_erased_value_is_the_same_as_nothing_not_even_as_another_one() {
        let (erased, one) = (Json::erased(), Json::parse("1").unwrap());
        for (a, b) in [(&erased, &erased), (&erased, &one), (&one, &erased)] {
            assert_eq!(compare(&"k".into(), Some(a), Some(b)).unwrap().places.len(), 1);
        }
    }

    #[test]
    fn an_element_that_was_put_in_or_taken_out_is_one_difference() {
        assert_eq!(places("[1, 2, 3]", "[1, 9, 2, 3]"), ["k[1]: - 9"]);
        assert_eq!(places("[1, 2, 3]", "[2, 3]"), ["k[0]: 1 -"]);
        assert_eq!(places("[1, 2, 3, 4]", "[1, 8, 9, 4]"), ["k[1]: 2 8", "k[2]: 3 9"]);
    }

    #[test]
    fn spaces_and_the_order_of_keys_are_no_difference() {
        assert_eq!(places(r#"{"a": 1, "b": 2}"#, r#"{"b":2,"a":1}"#), [""; 0]);
    }

    #[test]
    fn of_many_places_the_first_are_kept_and_all_are_counted() {
        let list = |by: usize| Json::from(Value::from((0..100).map(|number| number * 2 + by).collect::<Vec<_>>()));
        let diff = compare(&"k".into(), Some(&list(0)), Some(&list(1))).unwrap();
        assert_eq!((diff.places.len(), diff.more), (20, 80));
    }

    #[test]
    fn a_value_that_is_nested_too_deep_differs_as_a_whole() {
        let deep = |inside: &str| Json::from_serializer(format!("{}{inside}{}", "[".repeat(200), "]".repeat(200)));
        let diff = compare(&"k".into(), Some(&deep("1")), Some(&deep("2"))).unwrap();
        assert_eq!(diff.places, [Place { path: "k".to_owned(), a: Some(deep("1")), b: Some(deep("2")) }]);
    }
}
