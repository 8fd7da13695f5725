//! Exports for whoever sits at the machine: events and profiles as files that `sluice import` and other programs read.

use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use metastore::{By, Job, MetaError};
use model::profile::ProfileKey;
use model::report::Export as Report;
use model::value::Properties;
use model::{ProjectId, ValueRef};
use store::archive::{Found, Rows, Writer};
use wire::archive;

use crate::app::App;
use crate::clock;
use crate::jobs::asked::{Export, Format};
use crate::jobs::{Running, Stop};

/// Profiles that are encoded at a time.
const CHUNK_PROFILES: usize = 1000;

/// Takes the files of an export, one after the other.
pub(crate) trait Files: Write + Send {
    /// What comes from now on belongs to another file, which is of this kind: `events` or `profiles`.
    fn next(&mut self, kind: &str) -> std::io::Result<()>;
}

/// Notes an export that begins, also in the audit log, which has to take it.
pub(crate) fn start(app: &App, project: ProjectId, asked: &Export, by: &By) -> Result<(Job, Report), MetaError> {
    let report = report(asked).map_err(MetaError::Invalid)?;
    let text = serde_json::to_string(asked).map_err(|error| MetaError::Invalid(error.to_string()))?;
    let job = app.metastore.start_export(project, &text, by)?;
    let detail = crate::jobs::asked::shown(&text);
    app.metastore.note_export(&job.actor, &by.address, by.at, project, &detail)?;
    Ok((job, report))
}

/// The report whose answer is exported.
fn report(asked: &Export) -> Result<Report, String> {
    let (from, to) = (crate::jobs::asked::date(&asked.from_date)?, crate::jobs::asked::date(&asked.to_date)?);
    let calendar = wire::dates::Calendar::new("UTC", clock::now());
    let parsed = asked.filter.as_deref().map(wire::expression::parse).transpose();
    Ok(Report {
        range: calendar.range(from, to).ok_or("--from-date must not be later than --to-date")?,
        events: Some(asked.events.clone()).filter(|events| !events.is_empty()),
        filter: parsed.map_err(|error| format!("--where: {error}"))?,
        limit: None,
        time_in_ms: true,
        dedup: false,
    })
}

/// Writes what was asked for.
pub(crate) fn run(app: &Arc<App>, running: &Running, asked: &Export, report: Report, files: &mut impl Files) -> Result<String, Stop> {
    {
        let mut progress = running.progress();
        (progress.phase, progress.unit) = ("writing".to_owned(), "rows".to_owned());
    }
    if asked.has_events {
        running.progress().part = "events".to_owned();
        files.next("events")?;
        match asked.format {
            Format::Lines => event_lines(app, running, report, files)?,
            Format::PackedLines => {
                let mut packed = GzEncoder::new(&mut *files, Compression::fast());
                event_lines(app, running, report, &mut packed)?;
                packed.finish()?;
            }
            Format::Parquet => {
                let goes_on = |rows| {
                    running.progress().records += rows;
                    running.check().is_ok()
                };
                let written = app.engine.export_parquet(running.project, &report, &mut *files, as_json, goes_on);
                running.check()?;
                written.map_err(|error| Stop::Failed(error.to_string()))?;
            }
        }
    }
    if asked.has_profiles {
        running.progress().part = "profiles".to_owned();
        files.next("profiles")?;
        match asked.format {
            Format::Lines => profile_lines(app, running, files)?,
            Format::PackedLines => {
                let mut packed = GzEncoder::new(&mut *files, Compression::fast());
                profile_lines(app, running, &mut packed)?;
                packed.finish()?;
            }
            Format::Parquet => profile_table(app, running, files)?,
        }
    }
    Ok(String::new())
}

fn as_json(value: ValueRef<'_>, out: &mut String) {
    wire::json::write_ref(value, out);
}

fn event_lines(app: &App, running: &Running, report: Report, out: &mut dyn Write) -> Result<(), Stop> {
    let failed = |error: query::QueryError| Stop::Failed(error.to_string());
    let mut pieces = app.engine.export(running.project, report, archive::write_event).map_err(failed)?;
    while let Some(piece) = pieces.blocking_recv() {
        running.check()?;
        let text = piece.map_err(failed)?;
        out.write_all(text.as_bytes())?;
        running.progress().records += text.bytes().filter(|byte| *byte == b'\n').count() as u64;
    }
    Ok(())
}

/// Hands every profile over in chunks.
fn profiles(app: &App, running: &Running, mut each: impl FnMut(Vec<(ProfileKey, Properties)>) -> Result<(), Stop>) -> Result<(), Stop> {
    let (mut chunk, mut outcome) = (Vec::new(), Ok(()));
    let read = app.store.snapshot(running.project)?.each_profile_of_any_kind(|key, profile| {
        chunk.push((key, profile.properties));
        if chunk.len() == CHUNK_PROFILES {
            outcome = running.check().and_then(|()| each(std::mem::take(&mut chunk)));
        }
        outcome.is_ok()
    });
    outcome?;
    read?;
    each(chunk)
}

fn profile_lines(app: &App, running: &Running, out: &mut dyn Write) -> Result<(), Stop> {
    profiles(app, running, |chunk| {
        let mut text = String::new();
        chunk.iter().for_each(|(key, properties)| archive::write_profile(key, properties, &mut text));
        out.write_all(text.as_bytes())?;
        running.progress().records += chunk.len() as u64;
        Ok(())
    })
}

fn profile_table(app: &App, running: &Running, out: &mut (dyn Write + Send)) -> Result<(), Stop> {
    let mut found = Found::default();
    profiles(app, running, |chunk| {
        chunk.iter().for_each(|(_, properties)| found.note(properties));
        Ok(())
    })?;
    let mut writer = Writer::new(out, Rows::Profiles, &found, as_json)?;
    profiles(app, running, |chunk| {
        writer.write_profiles(&chunk)?;
        running.progress().records += chunk.len() as u64;
        Ok(())
    })?;
    writer.finish()?;
    Ok(())
}
