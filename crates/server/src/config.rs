//! The settings: `sluice.default.toml` is compiled in, a file of the operator's overrides it by name, flags and environment win. The
//! environment is read here and nowhere else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::Networks;
use serde::Deserialize;

const DEFAULTS: &str = include_str!("../../../sluice.default.toml");

/// Every setting; `sluice.default.toml` says what each is for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub listen: Listen,
    pub routes: Routes,
    pub queries: Queries,
    pub store: Store,
    pub log: Log,
    pub track: Track,
    pub lookup_tables: LookupTables,
    pub geo: Geo,
    pub mail: Mail,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    pub address: SocketAddr,
    tls_address: String,
    tls_certificate: PathBuf,
    tls_key: PathBuf,
    pub public_url: String,
    pub trusted_proxies: Proxies,
    pub path_prefixes: Vec<String>,
    pub connections_max: usize,
    header_timeout_seconds: u64,
    body_idle_timeout_seconds: u64,
    body_timeout_seconds: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Routes {
    pub track: String,
    pub engage: String,
    pub groups: String,
    pub flags: String,
    pub record: String,
    pub settings: String,
}

/// Networks of proxies whose word about the client is believed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub(crate) struct Proxies(pub Networks);

impl TryFrom<Vec<String>> for Proxies {
    type Error = String;

    fn try_from(list: Vec<String>) -> Result<Self, String> {
        Networks::parse(&list.join(",")).map(Self).map_err(|piece| format!("trusted_proxies: `{piece}` is no address and no network"))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Queries {
    pub concurrent_max: usize,
    pub exports_max: usize,
    wait_seconds_max: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    pub seal_rows_max: u64,
    seal_age_seconds: u64,
    pub tail_rows_max: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    filter: String,
    pub json: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Track {
    pub redirect_hosts: Vec<String>,
    pub event_names_per_day_max: usize,
    pub property_names_per_day_max: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LookupTables {
    pub calls_per_day_max: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Geo {
    pub mmdb_file: PathBuf,
    pub reverse_geocoding: bool,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mail {
    /// May hold a password: it is never printed.
    pub smtp_url: String,
    pub from: String,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mail {{ from: {:?} }}", self.from)
    }
}

/// Where HTTPS is answered, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    pub address: SocketAddr,
    /// Certificate and key; `serve --demo` makes its own where there are none.
    pub files: Option<(PathBuf, PathBuf)>,
}

/// What the command line says about listening; it wins over the settings.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ListenFlags {
    /// Where to answer plain HTTP; port 0 takes a free one.
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Where to answer HTTPS.
    #[arg(long)]
    pub tls_listen: Option<SocketAddr>,
    /// Certificate with its chain, PEM; read again when it changes.
    #[arg(long)]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, PEM.
    #[arg(long)]
    pub tls_key: Option<PathBuf>,
}

impl Settings {
    /// The defaults, overridden by a file.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, String> {
        let mut settings: toml::Table = DEFAULTS.parse().expect("the compiled-in settings parse");
        if let Some(path) = path {
            let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            let given: toml::Table = text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
            for (name, value) in given {
                match (settings.get_mut(&name), value) {
                    (Some(toml::Value::Table(section)), toml::Value::Table(given)) => section.extend(given),
                    (_, value) => {
                        settings.insert(name, value);
                    }
                }
            }
        }
        let shown = path.map_or_else(|| "settings".to_owned(), |path| path.display().to_string());
        let mut settings: Self = settings.try_into().map_err(|error: toml::de::Error| format!("{shown}: {}", error.message()))?;
        settings.mail.smtp_url = std::env::var("SLUICE_SMTP_URL").unwrap_or(settings.mail.smtp_url);
        let most = tokio::sync::Semaphore::MAX_PERMITS;
        if !(1..=most).contains(&settings.listen.connections_max) {
            return Err(format!("{shown}: listen.connections_max must be a number from 1 to {most}"));
        }
        crate::routes::aliases(&settings).map_err(|error| format!("{shown}: {error}"))?;
        Ok(settings)
    }

    /// Takes what the command line says.
    pub(crate) fn listen(&mut self, flags: ListenFlags) -> Result<(), String> {
        let listen = &mut self.listen;
        listen.address = flags.listen.unwrap_or(listen.address);
        listen.tls_address = flags.tls_listen.map_or_else(|| listen.tls_address.clone(), |address| address.to_string());
        listen.tls_certificate = flags.tls_cert.unwrap_or_else(|| listen.tls_certificate.clone());
        listen.tls_key = flags.tls_key.unwrap_or_else(|| listen.tls_key.clone());
        self.tls().map(|_| ())
    }

    /// Whether nothing outside this machine is answered.
    pub(crate) fn is_loopback(&self) -> bool {
        let secure = self.tls().ok().flatten();
        self.listen.address.ip().is_loopback() && secure.is_none_or(|tls| tls.address.ip().is_loopback())
    }

    /// Where HTTPS is answered, if anywhere.
    pub(crate) fn tls(&self) -> Result<Option<Tls>, String> {
        let listen = &self.listen;
        let named = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
        let files = match (named(&listen.tls_certificate), named(&listen.tls_key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("a TLS certificate and its key go together: give both --tls-cert and --tls-key".to_owned()),
        };
        if listen.tls_address.is_empty() {
            let text = "a TLS certificate needs an address: give --tls-listen";
            return if files.is_some() { Err(text.to_owned()) } else { Ok(None) };
        }
        let address = listen.tls_address.parse().map_err(|_| format!("tls_address: `{}` is not ADDRESS:PORT", listen.tls_address))?;
        Ok(Some(Tls { address, files }))
    }
}

impl Listen {
    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_timeout_seconds)
    }

    pub(crate) fn body_idle_timeout(&self) -> Duration {
        Duration::from_secs(self.body_idle_timeout_seconds)
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_seconds)
    }
}

impl Queries {
    pub(crate) fn wait_max(&self) -> Duration {
        Duration::from_secs(self.wait_seconds_max)
    }
}

impl Store {
    pub(crate) fn seal_age(&self) -> Duration {
        Duration::from_secs(self.seal_age_seconds)
    }
}

impl Log {
    /// `SLUICE_LOG`, else the setting.
    pub(crate) fn filter(&self) -> String {
        std::env::var("SLUICE_LOG").unwrap_or_else(|_| self.filter.clone())
    }
}

/// The sockets that whoever started the server holds for it (`LISTEN_FDS`, as systemd passes them): they queue what comes while it restarts.
pub(crate) fn held_sockets() -> Result<Vec<std::net::TcpListener>, String> {
    let mut held = listenfd::ListenFd::from_env();
    let failed = |error| format!("a socket that was handed over takes no connections: {error}");
    let mut sockets = Vec::new();
    for at in 0..held.len() {
        sockets.extend(held.take_tcp_listener(at).map_err(failed)?);
    }
    Ok(sockets)
}

/// `SLUICE_DATA`: the data directory where `--data` is not given.
pub(crate) fn data_dir(given: Option<PathBuf>) -> Result<PathBuf, String> {
    given
        .or_else(|| std::env::var_os("SLUICE_DATA").map(PathBuf::from))
        .ok_or_else(|| "name the data directory with --data or SLUICE_DATA".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Settings::read(Some(file.path()))
    }

    #[test]
    fn a_file_overrides_by_name() {
        let defaults = Settings::read(None).unwrap();
        assert_eq!(defaults.listen.address.to_string(), "127.0.0.1:8080");
        let settings = read("[queries]\nconcurrent_max = 9\n").unwrap();
        assert_eq!(settings.queries.concurrent_max, 9);
        assert_eq!(settings.queries.wait_max(), defaults.queries.wait_max());
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        assert!(read("[listen]\nconnections_max = 0\n").unwrap_err().contains("connections_max"));
        assert!(read("[queries]\nconcurent_max = 9\n").unwrap_err().contains("concurent_max"));
        assert!(read("[querys]\n").unwrap_err().contains("querys"));
        assert!(read("[listen]\naddress = 8080\n").is_err());
    }

    #[test]
    fn a_path_cannot_stand_for_two_endpoints() {
        assert!(read("[listen]\npath_prefixes = [\"/_mp/api\"]\n[routes]\ntrack = \"collect\"\n").is_ok());
        assert!(read("[routes]\ntrack = \"collect\"\nengage = \"/collect/\"\n").unwrap_err().contains("collect"));
        assert!(read("[routes]\ntrack = \"api/x\"\n").unwrap_err().contains("api/x"));
    }

    #[test]
    fn a_certificate_needs_its_key_and_an_address() {
        let mut settings = Settings::read(None).unwrap();
        assert!(settings.listen(ListenFlags { tls_cert: Some("a".into()), ..Default::default() }).is_err());
        assert!(settings.listen(ListenFlags { tls_key: Some("b".into()), ..Default::default() }).is_err());
        settings.listen(ListenFlags { tls_listen: "127.0.0.1:1".parse().ok(), ..Default::default() }).unwrap();
        assert_eq!(settings.tls().unwrap().unwrap().files, Some(("a".into(), "b".into())));
    }
}
