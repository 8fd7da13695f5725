//! The demo project of `serve --demo`: two months of a small shop, the same on every machine.

use std::net::SocketAddr;

use metastore::{By, Metastore, NewProject};
use model::profile::{ProfileKey, ProfileOp, ProfileUpdate};
use model::time::DAY_MS;
use model::value::Properties;
use model::{Event, Timestamp, Value};
use store::Store;

use crate::{clock, routes};

const DAYS: i64 = 60;
const USERS: u64 = 2000;
/// On the last day; the shop grew from a third of it, and weekends are quiet.
const EVENTS_PER_DAY: i64 = 4000;

/// Makes the project on the first run, and returns what to print.
pub(crate) async fn prepare(metastore: &Metastore, store: &Store, address: SocketAddr) -> Result<String, String> {
    let text = |error: metastore::MetaError| error.to_string();
    let project = match metastore.projects().map_err(text)?.into_iter().find(|project| project.name == "Demo") {
        Some(project) => project,
        None => {
            let new = NewProject { name: "Demo".to_owned(), timezone: "UTC".to_owned(), ..NewProject::default() };
            metastore.create_project(&new, &By::console(clock::now())).map_err(text)?.0
        }
    };
    // Profiles come last: without them the first run was cut short, and what it sent counts once.
    let last = ProfileKey::User(format!("user-{}", USERS - 1));
    let snapshot = store.snapshot(project.id).map_err(|error| error.to_string())?;
    if snapshot.profile(&last).map_err(|error| error.to_string())?.is_none() {
        fill(store, project.id).await.map_err(|error| error.to_string())?;
    }
    let Ok(pair) = metastore.reveal_key(project.id, None, &By::console(clock::now())) else { return Ok(String::new()) };
    let (token, key, secret) = (&project.token, &pair.api_key, pair.api_secret.expose());
    let sluice = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_else(|_| "sluice".to_owned());
    let base = format!("http://{address}");
    let today = &model::profile::wall_time(clock::now())[..10];
    let (track, export) = (routes::TRACK, routes::EXPORT);
    Ok(format!(
        "
project     Demo ({})
token       {token}
api key     {key}
api secret  {secret}
never share this API secret or send it over email

send an event with the token:
  curl -d 'data={{\"event\":\"Hello\",\"properties\":{{\"token\":\"{token}\",\"distinct_id\":\"me\"}}}}' {base}{track}
read it back, signed:
  curl \"$(printf %s '{secret}' | {sluice} sign --api-key {key} --api-secret-stdin GET '{base}{export}?from_date={today}&to_date={today}&event=[\"Hello\"]')\"
see the token refused:
  curl -u '{token}:' '{base}{export}?from_date={today}&to_date={today}'

",
        project.id
    ))
}

async fn fill(store: &Store, project: model::ProjectId) -> Result<(), store::StoreError> {
    let now = clock::now();
    let midnight = now.0.div_euclid(DAY_MS) * DAY_MS;
    // A small generator of our own: the demo needs the same data everywhere, not good randomness.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    const COUNTRIES: [&str; 6] = ["DE", "US", "FR", "JP", "BR", "IN"];
    const SYSTEMS: [&str; 4] = ["Windows", "Mac OS X", "iOS", "Android"];
    const PAGES: [&str; 5] = ["/", "/pricing", "/products", "/products/lamp", "/blog"];
    const PLANS: [&str; 3] = ["free", "pro", "team"];
    const NAMES: [(&str, u64); 5] = [("Page View", 60), ("Search", 20), ("Add to Cart", 10), ("Sign Up", 6), ("Purchase", 4)];
    eprint!("filling the demo project ");
    for day in 0..DAYS {
        let start = midnight - (DAYS - 1 - day) * DAY_MS;
        // Today goes on: it has what its part of the day would have.
        let length = DAY_MS.min(now.0 - start).max(1);
        // The epoch was a Thursday.
        let is_weekend = matches!((start / DAY_MS + 4) % 7, 0 | 6);
        let grown = EVENTS_PER_DAY * (DAYS + 2 * day) / (3 * DAYS);
        let count = if is_weekend { grown * 2 / 3 } else { grown } * length / DAY_MS;
        let mut events = Vec::new();
        for number in 0..count {
            let user = draw(USERS);
            let mut pick = draw(100);
            let chosen = NAMES.iter().find(|(_, share)| {
                let is_it = pick < *share;
                pick = pick.wrapping_sub(*share);
                is_it
            });
            let name = chosen.map_or("Page View", |(name, _)| name);
            let mut properties = Properties::from_iter([
                ("country".to_owned(), Value::from(COUNTRIES[(user % 6) as usize])),
                ("plan".to_owned(), Value::from(PLANS[(user % 7 % 3) as usize])),
                ("$os".to_owned(), Value::from(SYSTEMS[(user % 11 % 4) as usize])),
            ]);
            match name {
                "Page View" => drop(properties.insert("page".to_owned(), Value::from(PAGES[draw(5) as usize]))),
                "Search" => drop(properties.insert("results".to_owned(), Value::from(draw(40) as i64))),
                "Purchase" => {
                    properties.insert("amount".to_owned(), Value::from((500 + draw(20_000)) as f64 / 100.0));
                    properties.insert("items".to_owned(), Value::from(1 + draw(5) as i64));
                }
                _ => {}
            }
            events.push(Event {
                name: name.to_owned(),
                distinct_id: format!("user-{user}"),
                time: Timestamp(start + draw(length as u64) as i64),
                insert_id: format!("demo-{day}-{number}"),
                received_at: now,
                authenticated: true,
                linking: None,
                properties,
            });
        }
        store.append(project, events).await?;
        eprint!(".");
    }
    let profile = |user: u64| ProfileUpdate {
        key: ProfileKey::User(format!("user-{user}")),
        op: ProfileOp::Set(Properties::from_iter([
            ("$name".to_owned(), Value::String(format!("User {user}"))),
            ("plan".to_owned(), Value::from(PLANS[(user % 7 % 3) as usize])),
        ])),
        time: now,
        received_at: now,
        ignore_time: false,
        ignore_alias: false,
        dedup_id: None,
        authenticated: true,
    };
    store.append_profiles(project, (0..USERS).map(profile).collect()).await?;
    eprintln!(" done");
    Ok(())
}
