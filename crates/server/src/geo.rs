//! Where an address or a pair of coordinates lies: by the operator's database of addresses, and by a list of the world's cities.

mod cities;

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use maxminddb::{PathElement, Reader, path};
use tokio::sync::watch;
use wire::location::Location;

use crate::config;

/// How often the file is looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(2);

/// What tells places.
pub(crate) struct Geo {
    file: Option<PathBuf>,
    addresses: RwLock<Option<Arc<Addresses>>>,
    reverse_geocoding: bool,
}

/// A database of addresses, whole in memory: a file that is cut while it is mapped would end the server.
struct Addresses {
    reader: Reader<Vec<u8>>,
    /// Whether the log was told that it is damaged.
    told: AtomicBool,
}

/// What of a file changes when it is written or replaced.
type Stamp = Option<(SystemTime, u64, u64)>;

impl Geo {
    /// Reads the database that the settings name. Where there is none, or one that cannot be read, addresses have no place.
    pub(crate) fn open(settings: &config::Geo) -> Self {
        let file = Some(settings.mmdb_file.clone()).filter(|file| !file.as_os_str().is_empty());
        let geo = Self { file, addresses: RwLock::default(), reverse_geocoding: settings.reverse_geocoding };
        geo.read();
        geo
    }

    /// Where an address is.
    pub(crate) fn of_address(&self, address: IpAddr) -> Option<Location> {
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        addresses.place(address.to_canonical())
    }

    /// The place of the nearest city, where there is one near by.
    pub(crate) fn of_coordinates(&self, latitude: f64, longitude: f64) -> Option<Location> {
        if self.reverse_geocoding { cities::nearest(latitude, longitude) } else { None }
    }

    /// Reads the file again whenever it changes, until `shutdown` turns true. A file that cannot be used is logged, and the old one stays.
    pub(crate) async fn follow(&self, mut shutdown: watch::Receiver<bool>) {
        let Some(file) = &self.file else { return };
        let mut seen = stamp(file);
        loop {
            tokio::select! {
                _ = tokio::time::sleep(RELOAD_EVERY) => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
            let now = stamp(file);
            if now != seen {
                // A file that is still being written changes once more.
                seen = now;
                tokio::task::block_in_place(|| self.read());
            }
        }
    }

    fn read(&self) {
        let Some(file) = &self.file else { return };
        let shown = file.display();
        match Reader::open_readfile(file) {
            Ok(reader) => {
                let kind = reader.metadata().database_type.clone();
                tracing::info!(file = %shown, kind, "the database of addresses was read");
                let addresses = Arc::new(Addresses { reader, told: AtomicBool::new(false) });
                *self.addresses.write().unwrap_or_else(PoisonError::into_inner) = Some(addresses);
            }
            Err(error) => {
                let has_old = self.addresses.read().unwrap_or_else(PoisonError::into_inner).is_some();
                let what = if has_old { "the old one stays" } else { "events and profiles get no place from addresses" };
                tracing::error!(file = %shown, %error, "geo.mmdb_file cannot be used: {what}");
            }
        }
    }
}

fn stamp(file: &Path) -> Stamp {
    std::fs::metadata(file).ok().and_then(|file| Some((file.modified().ok()?, file.len(), file.ino())))
}

/// Where a text stands in the databases that there are: MaxMind's and DB-IP's are nested, others flat.
type Paths<'a> = [&'a [PathElement<'a>]];

impl Addresses {
    fn place(&self, address: IpAddr) -> Option<Location> {
        let found = match self.reader.lookup(address) {
            Ok(found) => found,
            // A database of IPv4 alone knows no IPv6.
            Err(maxminddb::MaxMindDbError::InvalidInput { .. }) => return None,
            Err(error) => {
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "the database of geo.mmdb_file is damaged: some addresses have no place");
                }
                return None;
            }
        };
        if !found.has_data() {
            return None;
        }
        let text = |paths: &Paths<'_>| {
            let text = paths.iter().find_map(|path| found.decode_path::<&str>(path).ok().flatten().filter(|text| !text.is_empty()));
            text.map(str::to_owned)
        };
        let place = Location {
            city: text(&[&path!["city", "names", "en"], &path!["city"]]),
            region: text(&[&path!["subdivisions", 0, "names", "en"], &path!["region"], &path!["state1"]]),
            country_code: text(&[&path!["country", "iso_code"], &path!["country_code"], &path!["country"]]),
            timezone: text(&[&path!["location", "time_zone"], &path!["timezone"]]),
        };
        Some(place).filter(|place| *place != Location::default())
    }
}
