//! `sluice import` and `sluice export`: they tell the running server what to do, hand files over or take them, and show how far it is.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::admin;
use crate::commands::{Command, Job, On};
use crate::jobs::asked::{self, Export, FileName, Files, Format, Import, Pull, Wish};
use crate::jobs::socket::{Kind, read_frame, write_frame};
use crate::jobs::view::{JobView, Progress};

/// What `sluice import` takes.
#[derive(clap::Args)]
pub(crate) struct ImportFlags {
    #[command(flatten)]
    on: On,
    /// Files or folders of exported events and profiles: JSON lines, JSON lists, Parquet, each packed with gzip or not; `-` is standard input.
    files: Vec<PathBuf>,
    /// Where to pull from instead: us, eu or in for the original, or an address such as https://data.mixpanel.com.
    #[arg(long, conflicts_with = "files")]
    from: Option<String>,
    /// Where profiles are read, where it is another address.
    #[arg(long, requires = "from")]
    profiles_from: Option<String>,
    /// Read the source's API secret from standard input.
    #[arg(long, requires = "from")]
    api_secret_stdin: bool,
    /// The user name of the source's service account.
    #[arg(long, requires_all = ["from", "secret_stdin"], conflicts_with = "api_secret_stdin")]
    service_account: Option<String>,
    /// Read the service account's secret from standard input.
    #[arg(long, requires = "service_account")]
    secret_stdin: bool,
    /// The project's id over there; a service account needs it.
    #[arg(long, requires = "from")]
    source_project_id: Option<i64>,
    /// The first day of events.
    #[arg(long, requires = "to_date")]
    from_date: Option<String>,
    /// The last day of events.
    #[arg(long, requires = "from_date")]
    to_date: Option<String>,
    /// Pull events; without --events, --profiles and --group both events and profiles of users are pulled.
    #[arg(long, requires = "from")]
    events: bool,
    /// Pull profiles of users.
    #[arg(long, requires = "from")]
    profiles: bool,
    /// Pull profiles of groups: the group key and the id that the source has for it, such as company=1234567890.
    #[arg(long, value_name = "KEY=ID", requires = "from")]
    group: Vec<String>,
    /// The time zone of a project of the original from before 2023, whose times are wall times of that zone.
    #[arg(long, value_name = "ZONE")]
    source_timezone: Option<String>,
    /// Requests to the source in an hour; the original takes 60.
    #[arg(long, default_value_t = 60)]
    requests_per_hour_max: u32,
    /// Requests to the source in a second; the original takes 3.
    #[arg(long, default_value_t = 3)]
    requests_per_second_max: u32,
}

/// What `sluice export` takes.
#[derive(clap::Args)]
pub(crate) struct ExportFlags {
    #[command(flatten)]
    on: On,
    /// The first day (UTC).
    #[arg(long)]
    from_date: String,
    /// The last day.
    #[arg(long)]
    to_date: String,
    /// Only this event; may be given again.
    #[arg(long)]
    event: Vec<String>,
    /// Only events that this expression is true of, such as 'properties["plan"] == "pro"'.
    #[arg(long = "where")]
    filter: Option<String>,
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
    /// A file, a folder, or - for standard output.
    #[arg(long)]
    output: PathBuf,
    /// Export profiles of users and groups too.
    #[arg(long)]
    profiles: bool,
}

fn connect(dir: &Path) -> Result<UnixStream, String> {
    admin::connect(dir).map_err(|_| format!("no server runs on {}: start it first", dir.display()))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Reads the line that answers.
fn answer(from: &mut impl BufRead) -> Result<Value, String> {
    let mut line = String::new();
    from.read_line(&mut line).map_err(text)?;
    let mut answer: Value = serde_json::from_str(&line).map_err(|_| "the running server gave no answer".to_owned())?;
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer["ok"].take()),
    }
}

fn wish(dir: &Path, wish: Wish) -> Result<BufReader<UnixStream>, String> {
    tell(dir, &Command::Wish(Box::new(wish)))
}

/// Tells the running server a command. Where none runs, nothing is done in its place: it may be about to start.
fn tell(dir: &Path, command: &Command) -> Result<BufReader<UnixStream>, String> {
    let mut stream = connect(dir)?;
    let line = serde_json::to_string(command).map_err(text)?;
    writeln!(stream, "{line}").map_err(text)?;
    Ok(BufReader::new(stream))
}

/// Imports; what came of it.
pub(crate) fn import(dir: &Path, flags: ImportFlags, json: bool, stdin: impl FnOnce() -> Result<String, String>) -> Result<Value, String> {
    let ImportFlags { on, files, from, source_timezone, .. } = &flags;
    let project = on.project;
    let (import, secret, paths) = match from {
        Some(from) => {
            if !flags.api_secret_stdin && !flags.secret_stdin {
                return Err("the source's secret is expected: give --api-secret-stdin, or --service-account and --secret-stdin".to_owned());
            }
            let pull = pull(&flags, from)?;
            pull.check()?;
            let secret = stdin()?;
            if secret.is_empty() {
                return Err("the source's secret is expected on standard input".to_owned());
            }
            (Import::Pull(pull), Some(secret), Vec::new())
        }
        None if files.is_empty() => return Err("name files to import, or a server to pull from with --from".to_owned()),
        None => {
            let paths = listed(files)?;
            let names = paths.iter().map(|path| file_name(path)).collect::<Result<_, _>>()?;
            (Import::Files(Files { files: names, source_timezone: source_timezone.clone() }), None, paths)
        }
    };
    let on = On { project, account: on.account.clone() };
    let begun = answer(&mut wish(dir, Wish::Import { on, asked: import, secret })?)?;
    let job = begun["job"].as_i64().ok_or("the running server gave no answer")?;
    if !json {
        eprintln!("import {job} runs in the server; `sluice job cancel --project {project} --job {job}` ends it");
    }
    let sending = (!paths.is_empty()).then(|| {
        let known: Vec<i64> = begun["known"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
        let dir = dir.to_path_buf();
        std::thread::spawn(move || hand_over(&dir, project, job, &paths, &known))
    });
    let ended = follow(dir, project, job, json);
    let view = ended?;
    // Where it failed, standard input may never end.
    if let Some(sending) = sending.filter(|sending| view.state == "done" || sending.is_finished())
        && let Err(error) = sending.join().unwrap_or_else(|_| Err("the files were not handed over".to_owned()))
    {
        return Err(error);
    }
    match view.state.as_str() {
        "done" => {}
        "cancelled" => return Err(format!("import {job} was cancelled; the same command again continues it")),
        _ => return Err(format!("import {job} failed: {}; the same command again continues it", view.error.unwrap_or_default())),
    }
    if !json {
        print(&table(&view))?;
        return Ok(Value::Null);
    }
    serde_json::to_value(view).map_err(text)
}

fn pull(flags: &ImportFlags, from: &str) -> Result<Pull, String> {
    let (events_from, profiles_from) = asked::hosts(from);
    let names_kinds = flags.events || flags.profiles || !flags.group.is_empty();
    let wants_events = flags.events || !names_kinds;
    let days = flags.from_date.clone().zip(flags.to_date.clone());
    if wants_events && days.is_none() {
        return Err("events are pulled by day: give --from-date and --to-date".to_owned());
    }
    let group = |text: &String| {
        let pair = text.split_once('=').map(|(key, id)| (key.to_owned(), id.to_owned()));
        pair.ok_or_else(|| format!("`{text}` names no group: write it as company=1234567890"))
    };
    Ok(Pull {
        events_from,
        profiles_from: flags.profiles_from.clone().map_or(profiles_from, |url| url.trim_end_matches('/').to_owned()),
        service_account: flags.service_account.clone(),
        source_project_id: flags.source_project_id,
        days: days.filter(|_| wants_events),
        profiles: flags.profiles || !names_kinds,
        groups: flags.group.iter().map(group).collect::<Result<_, _>>()?,
        source_timezone: flags.source_timezone.clone(),
        requests_per_hour_max: flags.requests_per_hour_max,
        requests_per_second_max: flags.requests_per_second_max,
    })
}

/// The files that are meant: a folder stands for what lies in it.
fn listed(files: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut paths = Vec::new();
    if files.len() > 1 && files.iter().any(|path| is_stdin(path)) {
        return Err("standard input is imported alone".to_owned());
    }
    for path in files {
        if !path.is_dir() {
            paths.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let below = entries.flatten().map(|entry| entry.path());
        let is_hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let mut below: Vec<PathBuf> = below.filter(|path| path.is_file() && !is_hidden(path)).collect();
        below.sort_unstable();
        if below.is_empty() {
            return Err(format!("{} holds no files", path.display()));
        }
        paths.extend(below);
    }
    Ok(paths)
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn file_name(path: &Path) -> Result<FileName, String> {
    if is_stdin(path) {
        return Ok(FileName { path: "-".to_owned(), bytes: 0, modified_ms: 0 });
    }
    let cannot = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let (absolute, meta) = (std::path::absolute(path).map_err(cannot)?, File::open(path).and_then(|file| file.metadata()).map_err(cannot)?);
    let modified = meta.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    Ok(FileName { path: absolute.display().to_string(), bytes: meta.len(), modified_ms: modified.as_millis() as i64 })
}

/// Hands the files over. What the server has already is only named.
fn hand_over(dir: &Path, project: i64, job: i64, paths: &[PathBuf], known: &[i64]) -> Result<(), String> {
    let mut stream = wish(dir, Wish::Files { project, job })?;
    let sent = send_files(stream.get_mut(), paths, known);
    // A server that had enough said why.
    let said = answer(&mut stream);
    sent?;
    said.map(|_| ())
}

fn send_files(out: &mut UnixStream, paths: &[PathBuf], known: &[i64]) -> Result<(), String> {
    for (path, number) in paths.iter().zip(1..) {
        let name = format!("{number} {}", path.display());
        if write_frame(out, Kind::Next, name.as_bytes()).is_err() {
            return Ok(());
        }
        if known.contains(&number) {
            continue;
        }
        let cannot = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
        let mut file: Box<dyn Read> = if is_stdin(path) { Box::new(std::io::stdin()) } else { Box::new(File::open(path).map_err(cannot)?) };
        let mut bytes = vec![0; 256 * 1024];
        loop {
            let read = file.read(&mut bytes).map_err(cannot)?;
            if read == 0 {
                break;
            }
            if write_frame(out, Kind::Data, &bytes[..read]).is_err() {
                return Ok(());
            }
        }
    }
    let _ = write_frame(out, Kind::End, &[]);
    Ok(())
}

/// How long a server may be away, as while it is restarted.
const AWAY_MAX: u32 = 60;

/// Shows how far a job is until it ended.
fn follow(dir: &Path, project: i64, job: i64, json: bool) -> Result<JobView, String> {
    let show = Command::Job(Job::Show { on: On { project, account: None }, job });
    let shown = Shown::new(!json && std::io::stderr().is_terminal(), json);
    let mut away = 0;
    loop {
        match tell(dir, &show).and_then(|mut stream| answer(&mut stream)) {
            Ok(view) => {
                away = 0;
                let view: JobView = serde_json::from_value(view).map_err(text)?;
                if view.state != "running" {
                    shown.end();
                    return Ok(view);
                }
                shown.update(view.progress.as_ref());
            }
            Err(error) if away == AWAY_MAX => return Err(format!("{error}; the import goes on once the server runs again")),
            Err(_) => away += 1,
        }
        std::thread::sleep(Duration::from_millis(if away > 0 { 1000 } else { 200 }));
    }
}

/// A bar on a terminal, else a line for each piece.
struct Shown {
    bar: Option<ProgressBar>,
    silent: bool,
    last: std::cell::RefCell<String>,
}

impl Shown {
    fn new(is_terminal: bool, silent: bool) -> Self {
        let style = "{spinner} [{elapsed}] {wide_bar} {pos}/{len} {msg}";
        let bar = is_terminal.then(|| ProgressBar::new(0).with_style(ProgressStyle::with_template(style).expect("the template is one")));
        Self { bar, silent, last: std::cell::RefCell::default() }
    }

    fn update(&self, progress: Option<&Progress>) {
        let Some(progress) = progress else { return };
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            let mib = progress.bytes / (1024 * 1024);
            let what = format!("{} {} {}", progress.phase, progress.part, progress.why);
            bar.set_message(format!("{}, {}, {mib} MiB, {} records", progress.unit, what.trim(), progress.records));
            return;
        }
        let line = format!("{} {} {}", progress.phase, progress.part, progress.why);
        let line = line.trim();
        if !self.silent && *self.last.borrow() != line {
            eprintln!("{line}\t{}/{} {}\t{} records", progress.done, progress.total, progress.unit, progress.records);
            line.clone_into(&mut self.last.borrow_mut());
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What came of an import, for people: a line a day, then why records were not taken.
fn table(view: &JobView) -> String {
    let Some(outcome) = &view.outcome else { return String::new() };
    let mut rows = vec![["day", "source", "imported", "refused", "duplicates", "stored", "difference"].map(str::to_owned)];
    let mut reasons = String::new();
    for line in &outcome.days {
        let counts = &line.counts;
        let or_dash = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
        rows.push([
            line.day.clone(),
            counts.source.to_string(),
            counts.imported.to_string(),
            counts.refused.values().sum::<u64>().to_string(),
            counts.duplicates.to_string(),
            or_dash(line.stored.map(|stored| stored.to_string())),
            or_dash(line.difference.map(|difference| difference.to_string())),
        ]);
        for (reason, count) in &counts.refused {
            reasons.push_str(&format!("{}\t{count} refused: {reason}\n", line.day));
        }
    }
    let mut out = String::new();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(at, (cell, width))| match at {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        out.push_str(&format!("{}\n", cells.join("  ")));
    }
    out.push_str(&reasons);
    if let Some(rejects) = &outcome.rejects {
        out.push_str(&format!("what was refused lies, with its reasons, in {rejects}\n"));
    }
    out
}

fn print(out: &str) -> Result<(), String> {
    match std::io::stdout().lock().write_all(out.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// Where the files of an export go.
enum Target {
    Stdout,
    /// One file, whole before it has its name.
    File(PathBuf),
    /// A file for events and one for profiles.
    Folder(PathBuf),
}

/// A file that is being written under another name.
struct Part {
    file: File,
    path: PathBuf,
}

impl Part {
    fn new(path: PathBuf) -> Result<Self, String> {
        let part = Self::name(&path);
        let file = File::create(&part).map_err(|error| format!("cannot write {}: {error}", part.display()))?;
        Ok(Self { file, path })
    }

    fn name(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        name.into()
    }

    fn finish(self) -> std::io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(Self::name(&self.path), &self.path)
    }
}

/// Exports; what came of it.
pub(crate) fn export(dir: &Path, flags: ExportFlags, json: bool) -> Result<Value, String> {
    let target = match flags.output {
        path if is_stdin(&path) => Target::Stdout,
        path if path.is_dir() || path.to_string_lossy().ends_with('/') => Target::Folder(path),
        path => Target::File(path),
    };
    if flags.profiles && flags.format == Format::Parquet && !matches!(target, Target::Folder(_)) {
        return Err("events and profiles have other columns: name a folder for both, such as --output export/".to_owned());
    }
    if let Target::Folder(path) = &target {
        std::fs::create_dir_all(path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    }
    let asked = Export {
        from_date: flags.from_date,
        to_date: flags.to_date,
        events: flags.event,
        filter: flags.filter,
        format: flags.format,
        has_events: true,
        has_profiles: flags.profiles,
    };
    let mut stream = wish(dir, Wish::Export { on: flags.on, asked })?;
    answer(&mut stream)?;
    let bar = (!json && std::io::stderr().is_terminal() && !matches!(target, Target::Stdout)).then(ProgressBar::no_length);
    let mut files: Vec<Part> = Vec::new();
    let taken = take_files(&mut stream, &target, flags.format, &mut files, bar.as_ref());
    let said = taken.and_then(|()| answer(&mut stream));
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    match said {
        Ok(said) => {
            for file in files {
                let path = file.path.clone();
                file.finish().map_err(|error| format!("cannot finish {}: {error}", path.display()))?;
            }
            // What was asked for went to standard output: nothing else belongs there.
            Ok(if matches!(target, Target::Stdout) { Value::Null } else { said })
        }
        Err(error) => {
            files.iter().for_each(|file| drop(std::fs::remove_file(Part::name(&file.path))));
            Err(error)
        }
    }
}

fn take_files(
    stream: &mut BufReader<UnixStream>,
    target: &Target,
    format: Format,
    files: &mut Vec<Part>,
    bar: Option<&ProgressBar>,
) -> Result<(), String> {
    loop {
        let (kind, bytes) = read_frame(stream).map_err(|_| "the export broke off: see the server's log".to_owned())?;
        match (kind, target) {
            (Kind::End, _) => return Ok(()),
            (Kind::Next, Target::Folder(folder)) => {
                let name = format!("{}.{}", String::from_utf8_lossy(&bytes), format.ending());
                files.push(Part::new(folder.join(name))?);
            }
            (Kind::Next, Target::File(path)) if files.is_empty() => files.push(Part::new(path.clone())?),
            (Kind::Next, _) => {}
            (Kind::Data, Target::Stdout) => std::io::stdout().lock().write_all(&bytes).map_err(text)?,
            (Kind::Data, _) => files.last_mut().map_or(Ok(()), |file| file.file.write_all(&bytes)).map_err(text)?,
        }
        if let Some(bar) = bar {
            bar.inc(bytes.len() as u64);
        }
    }
}
