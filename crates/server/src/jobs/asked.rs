//! What an import or export is asked for: as the command line, the socket and the metastore have it. Nothing here holds a secret.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::commands::On;

/// What an import takes its records from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Import {
    /// The original, or another server that answers as it does.
    Pull(Pull),
    /// Files that a command hands over, one after the other.
    Files(Files),
}

/// What is pulled from another server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pull {
    /// Where raw events are exported.
    pub events_from: String,
    /// Where profiles are read.
    pub profiles_from: String,
    /// The user name of a service account; without one the secret is an API secret.
    pub service_account: Option<String>,
    /// The project over there; service accounts need it.
    pub source_project_id: Option<i64>,
    /// The first and the last day, where events are asked for.
    pub days: Option<(String, String)>,
    /// Whether profiles of users are asked for.
    pub profiles: bool,
    /// Keys of groups with the id that the source has for their profiles.
    pub groups: Vec<(String, String)>,
    /// The zone whose wall time the source writes.
    pub source_timezone: Option<String>,
    /// Requests in an hour, and in a second.
    pub requests_per_hour_max: u32,
    pub requests_per_second_max: u32,
}

/// Files that a command hands over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Files {
    pub files: Vec<FileName>,
    pub source_timezone: Option<String>,
}

/// A file, and what tells whether it is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileName {
    pub path: String,
    pub bytes: u64,
    pub modified_ms: i64,
}

/// What is exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Export {
    pub from_date: String,
    pub to_date: String,
    /// Only these events; all where there are none.
    pub events: Vec<String>,
    /// Only events that this expression is true of.
    pub filter: Option<String>,
    pub format: Format,
    /// Events are left out where only profiles are asked for.
    pub has_events: bool,
    pub has_profiles: bool,
}

/// The form of an exported file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(crate) enum Format {
    /// JSON, a line an event.
    #[value(name = "jsonl")]
    #[serde(rename = "jsonl")]
    Lines,
    /// The same, packed with gzip.
    #[value(name = "jsonl.gz")]
    #[serde(rename = "jsonl.gz")]
    PackedLines,
    /// Parquet, a typed column a property.
    #[value(name = "parquet")]
    #[serde(rename = "parquet")]
    Parquet,
}

impl Format {
    /// How the name of such a file ends.
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Self::Lines => "jsonl",
            Self::PackedLines => "jsonl.gz",
            Self::Parquet => "parquet",
        }
    }
}

/// What goes over the socket of the running server for a job; never over the network.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Wish {
    /// Start an import, or continue it.
    Import { on: On, asked: Import, secret: Option<String> },
    /// Hand over the files of an import: the command goes on in frames.
    Files { project: i64, job: i64 },
    /// Start an export: the answer goes on in frames.
    Export { on: On, asked: Export },
}

/// A date of a command.
pub(crate) fn date(text: &str) -> Result<Date, String> {
    // Events may be older than the days that reports are asked for.
    text.trim().parse().map_err(|_| format!("`{text}` is no date: write it as 2024-01-31"))
}

impl Pull {
    /// Refuses what cannot be asked.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some((from, to)) = &self.days
            && date(from)? > date(to)?
        {
            return Err("--from-date must not be later than --to-date".to_owned());
        }
        if self.days.is_none() && !self.profiles && self.groups.is_empty() {
            return Err("nothing is asked for: name days of events, profiles or groups".to_owned());
        }
        if self.service_account.is_some() && self.source_project_id.is_none() {
            return Err("a service account reads a project that is named: give --source-project-id".to_owned());
        }
        for url in [&self.events_from, &self.profiles_from] {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            if rest.is_none_or(|rest| rest.is_empty() || rest.contains(['@', '?', '#', ' '])) {
                return Err(format!("`{url}` is no address: write it as https://data.mixpanel.com"));
            }
        }
        if self.requests_per_hour_max == 0 || self.requests_per_second_max == 0 {
            return Err("the limits of requests are numbers from 1 on".to_owned());
        }
        wire::archive::Times::of_zone(self.source_timezone.as_deref()).map(|_| ())
    }
}

/// Where the original exports events and answers with profiles, by region; any other address is both.
pub(crate) fn hosts(from: &str) -> (String, String) {
    let from = from.trim_end_matches('/');
    let (data, query) = match from {
        "us" | "https://data.mixpanel.com" | "https://mixpanel.com" => ("data", ""),
        "eu" | "https://data-eu.mixpanel.com" | "https://eu.mixpanel.com" => ("data-eu", "eu."),
        "in" | "https://data-in.mixpanel.com" | "https://in.mixpanel.com" => ("data-in", "in."),
        other => return (other.to_owned(), other.to_owned()),
    };
    (format!("https://{data}.mixpanel.com"), format!("https://{query}mixpanel.com"))
}

/// What was asked for, in a line.
pub(crate) fn shown(asked: &str) -> String {
    let days = |(from, to): &(String, String)| format!("{from} to {to}");
    if let Ok(import) = serde_json::from_str::<Import>(asked) {
        return match import {
            Import::Pull(pull) => {
                let mut what: Vec<String> = pull.days.iter().map(days).collect();
                what.extend(pull.profiles.then(|| "profiles".to_owned()));
                what.extend(pull.groups.iter().map(|(key, _)| format!("groups {key}")));
                format!("{} from {}", what.join(", "), pull.events_from)
            }
            Import::Files(files) => match files.files.as_slice() {
                [one] => one.path.clone(),
                several => format!("{} files", several.len()),
            },
        };
    }
    match serde_json::from_str::<Export>(asked) {
        Ok(export) => {
            let mut what = Vec::new();
            what.extend(export.has_events.then(|| days(&(export.from_date, export.to_date))));
            what.extend(export.has_profiles.then(|| "profiles".to_owned()));
            format!("{} as {}", what.join(", "), export.format.ending())
        }
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_has_two_hosts_and_another_server_one() {
        assert_eq!(hosts("us"), ("https://data.mixpanel.com".to_owned(), "https://mixpanel.com".to_owned()));
        assert_eq!(hosts("https://data-eu.mixpanel.com/").1, "https://eu.mixpanel.com");
        assert_eq!(hosts("http://127.0.0.1:9").0, hosts("http://127.0.0.1:9").1);
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let good = Pull {
            events_from: "https://data.mixpanel.com".to_owned(),
            profiles_from: "https://mixpanel.com".to_owned(),
            service_account: None,
            source_project_id: None,
            days: Some(("2024-01-01".to_owned(), "2024-01-02".to_owned())),
            profiles: false,
            groups: Vec::new(),
            source_timezone: None,
            requests_per_hour_max: 60,
            requests_per_second_max: 3,
        };
        assert_eq!(good.check(), Ok(()));
        let days = |from: &str, to: &str| Pull { days: Some((from.to_owned(), to.to_owned())), ..good.clone() };
        assert!(days("2024-01-02", "2024-01-01").check().is_err() && days("soon", "2024-01-01").check().is_err());
        assert!(Pull { days: None, ..good.clone() }.check().is_err());
        assert!(Pull { service_account: Some("sa".to_owned()), ..good.clone() }.check().unwrap_err().contains("--source-project-id"));
        assert!(Pull { events_from: "https://user:secret@host".to_owned(), ..good.clone() }.check().is_err());
        assert!(Pull { source_timezone: Some("Mars/Base".to_owned()), ..good }.check().is_err());
    }
}
