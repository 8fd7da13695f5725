//! `engage`: profiles in pages. The first page folds and sorts all of them; later pages read the same rows again for half an hour.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use model::report::{Engage, EngageAnswer};
use model::value::Properties;
use model::{ProjectId, Timestamp, Value};
use store::{ProfileKind, Snapshot};

use crate::error::QueryError;
use crate::evaluate::{Memory, Operand, ProfileRow, Program};
use crate::joins::{JoinedProfile, ProfileLeads};

/// A session lives this long.
const SESSION_MS: i64 = 30 * 60 * 1000;
/// Sessions, and rows in all of them, of one project beyond which the one that was not used for longest ends: rows stay in memory.
const SESSIONS_MAX: usize = 1000;
const SESSION_ROWS_MAX: usize = 2_000_000;

/// Id and properties, in the order of the answer.
type Rows = Arc<Vec<(String, Properties)>>;

struct Session {
    rows: Rows,
    made_at: Timestamp,
    used_at: Timestamp,
}

/// The answers whose further pages can still be asked.
#[derive(Default)]
pub(crate) struct Sessions {
    held: Mutex<HashMap<(ProjectId, String), Session>>,
}

impl Sessions {
    pub(crate) fn get(&self, project: ProjectId, id: &str, now: Timestamp) -> Option<(Rows, Timestamp)> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let session = held.get_mut(&(project, id.to_owned())).filter(|session| now.0 - session.made_at.0 < SESSION_MS)?;
        session.used_at = now;
        Some((session.rows.clone(), session.made_at))
    }

    pub(crate) fn put(&self, project: ProjectId, id: &str, rows: Rows, now: Timestamp) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, session| now.0 - session.made_at.0 < SESSION_MS);
        loop {
            let mine = || held.iter().filter(|((owner, _), _)| *owner == project);
            let rows_held: usize = mine().map(|(_, session)| session.rows.len()).sum();
            if mine().count() < SESSIONS_MAX && rows_held + rows.len() <= SESSION_ROWS_MAX {
                break;
            }
            let Some(oldest) = mine().min_by_key(|(_, session)| session.used_at).map(|(key, _)| key.clone()) else { break };
            held.remove(&oldest);
        }
        held.insert((project, id.to_owned()), Session { rows, made_at: now, used_at: now });
    }
}

/// Every row that the report asks for, in order.
pub(crate) fn rows(snapshot: &Snapshot, report: &Engage) -> Result<Rows, QueryError> {
    let kind = report.group_key.clone().map_or(ProfileKind::Users, ProfileKind::Group);
    let of_users = kind == ProfileKind::Users;
    // Whoever asks for one of a user's ids means the user.
    let user = |id: &String| snapshot.user_of_profile(id).filter(|_| of_users).map_or_else(|| id.clone(), |user| user.to_string());
    let ids: Option<HashSet<String>> = report.distinct_ids.as_ref().map(|ids| ids.iter().map(user).collect());
    let ready = |expr| {
        let program = Program::new(expr);
        ProfileLeads::new(&program, snapshot, &kind).map(|leads| (program, leads))
    };
    let filter = report.filter.as_ref().map(ready).transpose()?;
    let mut rows: Vec<(String, Properties)> = Vec::new();
    snapshot.each_profile(&kind, |id, profile| {
        let properties = profile.properties;
        let passes = |(program, leads): &(Program, ProfileLeads)| {
            let row = ProfileRow { program, id: &id, properties: &properties };
            program.passes(&JoinedProfile { row, leads }, 0, &mut Memory::default())
        };
        let found = |search: &String| {
            let holds = |value: &Value| value.as_str().is_some_and(|text| text.to_lowercase().contains(search));
            id.to_lowercase().contains(search) || properties.values().any(holds)
        };
        if ids.as_ref().is_none_or(|ids| ids.contains(&id))
            && filter.as_ref().is_none_or(passes)
            && report.search.as_ref().is_none_or(found)
        {
            rows.push((id, properties));
        }
    })?;
    if let Some(sort) = &report.sort {
        let (program, leads) = ready(&sort.by)?;
        let order: Vec<usize> = {
            let value = |at: usize| {
                let (id, properties) = &rows[at];
                let row = ProfileRow { program: &program, id, properties };
                program.evaluate(&JoinedProfile { row, leads: &leads }, 0, &mut Memory::default())
            };
            let mut keyed: Vec<(Operand<'_>, usize)> = (0..rows.len()).map(|at| (value(at), at)).collect();
            // Profiles without the property come last in both directions; ties stay by id.
            keyed.sort_by(|(a, _), (b, _)| {
                let directed = if sort.descending { b.order(a) } else { a.order(b) };
                a.is_absent().cmp(&b.is_absent()).then(if a.is_absent() { std::cmp::Ordering::Equal } else { directed })
            });
            keyed.into_iter().map(|(_, at)| at).collect()
        };
        let mut taken: Vec<Option<(String, Properties)>> = rows.into_iter().map(Some).collect();
        rows = order.into_iter().filter_map(|at| taken[at].take()).collect();
    }
    if let Some(names) = &report.output_properties {
        let names: HashSet<&String> = names.iter().collect();
        rows.iter_mut().for_each(|(_, properties)| properties.retain(|name, _| names.contains(name)));
    }
    Ok(Arc::new(rows))
}

/// One page of rows; empty beyond the last.
pub(crate) fn page(rows: &Rows, report: &Engage, session_id: String, computed_at: Timestamp) -> EngageAnswer {
    let start = report.page.saturating_mul(report.page_size);
    EngageAnswer {
        rows: rows.iter().skip(start).take(report.page_size).cloned().collect(),
        page: report.page,
        page_size: report.page_size,
        total: rows.len(),
        session_id,
        computed_at,
    }
}
