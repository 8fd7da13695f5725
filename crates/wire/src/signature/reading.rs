//! The readings of a signed text: every way in which it may have been put together from names that an endpoint knows. A request is taken
//! only where its text has no reading but the one that was received (docs/decisions/0002).

use super::seconds;
use crate::{dates, expression, json};

/// Parameters that every endpoint knows when a request is signed.
pub(super) const COMMON: &[&str] =
    &["format", "bucket", "verbose", "action", "project_id", "workspace_id", "query_origin", "use_query_cache", "api_key", "expire"];

/// What the endpoints know.
pub(super) const EVERY_ENDPOINT: [&[&str]; 5] = [
    crate::export::PARAMETERS,
    crate::profiles::PARAMETERS,
    crate::properties::PARAMETERS,
    crate::segmentation::EVENTS_PARAMETERS,
    crate::segmentation::PARAMETERS,
];

/// More `name=` than these in one text are not worth reading.
const PIECES_MAX: usize = 64;
/// More steps than these are not worth taking: a text that needs them counts as ambiguous.
const STEPS_MAX: usize = 20_000;

/// The names that an endpoint knows in signed requests, ready to be looked for. Made once for each endpoint.
#[derive(Debug)]
pub struct Names {
    /// Its own and the common ones.
    known: Ends,
    /// Those of every endpoint too: the path is not signed.
    all: Ends,
}

impl Names {
    /// The names of an endpoint with these parameters.
    pub fn new(parameters: &[&'static str]) -> Self {
        let known: Vec<&str> = [parameters, COMMON].concat();
        let all = [&EVERY_ENDPOINT.concat()[..], &known].concat();
        Self { known: Ends::new(known), all: Ends::new(all) }
    }

    /// Whether the endpoint knows a name.
    pub(super) fn is_known(&self, name: &str) -> bool {
        self.known.ending(name).any(|known| known == name)
    }

    /// Whether a value holds `name=` of a parameter that sorts after its own; also where a name overlaps itself, as in
    /// `distinct_idistinct_id=`.
    fn holds_later(&self, name: &str, value: &str) -> bool {
        value.match_indices('=').any(|(end, _)| self.all.ending(&value[..end]).any(|later| later > name))
    }
}

/// Names in the order of their last two bytes: which of them a text ends with is soon known.
#[derive(Debug)]
struct Ends(Vec<([u8; 2], &'static str)>);

impl Ends {
    fn new(names: Vec<&'static str>) -> Self {
        let end = |name: &str| name.as_bytes().last_chunk().copied().expect("parameters have two letters and more");
        let mut ends: Vec<_> = names.into_iter().map(|name| (end(name), name)).collect();
        ends.sort_unstable();
        ends.dedup();
        Self(ends)
    }

    /// The names with which a text ends, in order.
    fn ending<'t>(&self, text: &'t str) -> impl Iterator<Item = &'static str> + use<'_, 't> {
        let end = text.as_bytes().last_chunk::<2>();
        let first = end.map_or(self.0.len(), |end| self.0.partition_point(|(other, _)| other < end));
        let alike = self.0[first..].iter().take_while(move |(other, _)| Some(other) == end);
        alike.map(|(_, name)| *name).filter(move |name| text.ends_with(name))
    }
}

/// Names and values of a request, by name.
pub(super) type Pairs<'a> = Vec<(&'a str, &'a str)>;

/// How a text may be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Readings<'a> {
    None,
    One(Pairs<'a>),
    Several,
}

/// A text whose signature fits.
pub(super) struct SignedText<'a> {
    pub base: &'a str,
    pub names: &'a Names,
    pub api_key: &'a str,
}

/// Where `name=` stands in a text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cut {
    start: usize,
    name: &'static str,
}

/// A search for readings, from left to right.
struct Search<'a> {
    cuts: Vec<Cut>,
    /// What was read so far.
    path: Pairs<'a>,
    found: Readings<'a>,
    steps: usize,
}

impl<'a> SignedText<'a> {
    /// Every reading: names in strictly rising order, `api_key` and `expire` among them, every value of its type, none holding a later name.
    pub(super) fn readings(&self) -> Readings<'a> {
        let mut cuts = Vec::new();
        for (end, _) in self.base.match_indices('=') {
            cuts.extend(self.names.known.ending(&self.base[..end]).map(|name| Cut { start: end - name.len(), name }));
        }
        if cuts.len() > PIECES_MAX {
            return Readings::Several;
        }
        cuts.sort_unstable();
        let mut search = Search { path: Vec::with_capacity(cuts.len()), cuts, found: Readings::None, steps: 0 };
        self.walk(0, 0, &mut search);
        search.found
    }

    /// Reads on at a place of the text; `next` is the first cut from there on.
    fn walk(&self, at: usize, next: usize, search: &mut Search<'a>) {
        search.steps += 1;
        if search.steps > STEPS_MAX {
            search.found = Readings::Several;
            return;
        }
        let last = search.path.last().map_or("", |(name, _)| name);
        for index in next..search.cuts.len() {
            let cut = search.cuts[index];
            if search.found == Readings::Several || cut.start != at {
                break;
            }
            if cut.name > last {
                self.walk_value(cut, index + 1, search);
            }
        }
    }

    /// Reads the value of a name in all its lengths: up to each later name, or to the end.
    fn walk_value(&self, Cut { start, name }: Cut, next: usize, search: &mut Search<'a>) {
        let start = start + name.len() + 1;
        let mut ended = 0;
        for index in next..=search.cuts.len() {
            if search.found == Readings::Several {
                return;
            }
            let (end, is_later) = search.cuts.get(index).map_or((self.base.len(), true), |cut| (cut.start, cut.name > name));
            if end < start || end == ended || !is_later {
                continue;
            }
            ended = end;
            let value = &self.base[start..end];
            // What is longer holds it too.
            if self.names.holds_later(name, value) {
                break;
            }
            if !self.is_of_type(name, value) {
                continue;
            }
            search.path.push((name, value));
            if index < search.cuts.len() {
                // Several names may start here, one of them a smaller one.
                let first = search.cuts.partition_point(|cut| cut.start < end);
                self.walk(end, first, search);
            } else if ["api_key", "expire"].iter().all(|needed| search.path.iter().any(|(name, _)| name == needed)) {
                search.found = match search.found {
                    Readings::None => Readings::One(search.path.clone()),
                    _ => Readings::Several,
                };
            }
            search.path.pop();
        }
    }

    /// The first parameter whose value is not of its type, where nothing looks as if it was cut.
    pub(super) fn malformed(&self, pairs: &[(&str, &str)]) -> Option<String> {
        let holds = |value: &str| value.match_indices('=').any(|(end, _)| self.names.known.ending(&value[..end]).next().is_some());
        if pairs.iter().any(|(_, value)| holds(value)) {
            return None;
        }
        pairs.iter().find(|(name, value)| !self.is_of_type(name, value)).map(|(name, _)| (*name).to_owned())
    }

    fn is_of_type(&self, name: &str, value: &str) -> bool {
        let one_of = |words: &[&str]| value.is_empty() || words.contains(&value);
        match name {
            "api_key" => value == self.api_key,
            "expire" => seconds(value).is_some(),
            "unit" => one_of(&["minute", "hour", "day", "week", "month"]),
            "type" => one_of(&["general", "unique", "average"]),
            "format" => one_of(&["json", "csv"]),
            "sort_order" => one_of(&["ascending", "descending"]),
            "time_in_ms" | "verbose" | "use_query_cache" | "dedup" | "include_all_users" => {
                matches!(value.to_ascii_lowercase().as_str(), "true" | "false" | "0" | "1" | "")
            }
            "interval" | "limit" | "page" | "page_size" | "project_id" | "workspace_id" | "buckets" => {
                value.is_empty() || value.parse::<i64>().is_ok()
            }
            "from_date" | "to_date" => dates::parse_date(value).is_ok(),
            "where" => value.is_empty() || expression::parse(value).is_ok(),
            "on" | "sort_key" => value.is_empty() || expression::parse(value).is_ok(),
            // A list, or one bare name in its place.
            "values" | "distinct_ids" | "output_properties" => {
                !value.contains('=') || json::parse(value).is_ok_and(|value| matches!(value, model::Value::List(_)))
            }
            _ => true,
        }
    }
}
