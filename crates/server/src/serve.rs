//! `sluice serve`: opens the data directory, listens, and closes everything in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use metastore::Metastore;
use store::disk::RealDisk;
use store::{Store, StoreOptions};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::app::App;
use crate::config::{self, Settings, Tls};
use crate::jobs::Jobs;
use crate::listen::Listener;
use crate::mail::{self, Mailer};
use crate::tls::{self, Certificate};
use crate::{admin, callers, clock, demo, notices, routes};

/// Where mails lie that no server takes, below the data directory.
const MAILBOX: &str = "mail";

/// What the operator asked for beyond the settings.
#[derive(Clone, Copy)]
pub(crate) struct Allowed {
    /// A demo project.
    pub demo: bool,
    /// Imported values that can be guessed, beyond loopback.
    pub weak: bool,
}

/// Runs until the process is told to stop.
pub(crate) fn run(dir: &Path, settings: Settings, key: Option<PathBuf>, allowed: Allowed) -> Result<(), String> {
    let tls = settings.tls()?;
    if allowed.demo && !settings.is_loopback() {
        return Err("--demo listens on loopback only".to_owned());
    }
    let log = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(settings.log.filter()))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    if settings.log.json {
        log.json().init()
    } else {
        log.init()
    }
    // It clears what it read from the environment: no thread may look there meanwhile.
    let sockets = config::held_sockets()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(serve(dir, settings, tls, key, allowed, sockets))
}

/// Listens on an address: on the socket that is held for it, where there is one.
async fn bind(address: SocketAddr, held: &mut Vec<std::net::TcpListener>) -> Result<(TcpListener, SocketAddr), String> {
    let failed = |error: std::io::Error| format!("cannot listen on {address}: {error}");
    let listener = match held.iter().position(|socket| socket.local_addr().is_ok_and(|bound| bound == address)) {
        Some(at) => {
            let socket = held.swap_remove(at);
            socket.set_nonblocking(true).map_err(failed)?;
            TcpListener::from_std(socket).map_err(failed)?
        }
        None => TcpListener::bind(address).await.map_err(failed)?,
    };
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    Ok((listener, bound))
}

async fn serve(
    dir: &Path,
    settings: Settings,
    tls: Option<Tls>,
    key: Option<PathBuf>,
    allowed: Allowed,
    mut sockets: Vec<std::net::TcpListener>,
) -> Result<(), String> {
    let is_demo = allowed.demo;
    let _held = admin::hold(dir)?;
    let key_file = admin::key_file(dir, key);
    let first_run = !key_file.exists();
    let metastore = Arc::new(Metastore::open(dir, &key_file, clock::now()).map_err(|error| error.to_string())?);
    clock::remember(metastore.newest_time().map_err(|error| error.to_string())?);
    if first_run && metastore.has_key_file() {
        println!("key file made: {} (without it no API secret can be read; keep a copy apart from backups)", key_file.display());
    }
    if !metastore.has_key_file() {
        eprintln!("the key file {} is missing: events are taken, signatures are answered 503", key_file.display());
    }
    for project in metastore.suspended_projects().map_err(|error| error.to_string())? {
        eprintln!(
            "the credentials of project {project} wait since a backup was restored: sluice credentials confirm --project {project} --as OWNER"
        );
    }
    let weak = metastore.weak_projects().map_err(|error| error.to_string())?;
    if let Some(project) = weak.first().filter(|_| !allowed.weak && !settings.is_loopback()) {
        return Err(format!(
            "project {project} has imported values under 32 characters, which can be guessed: reset its credentials, or say --allow-weak"
        ));
    }
    let mut options = StoreOptions::new(dir.to_path_buf());
    options.seal_rows_max = settings.store.seal_rows_max;
    options.seal_age = settings.store.seal_age();
    options.tail_rows_max = settings.store.tail_rows_max;
    options.counts_names = settings.track.lexicon;
    options.tail_bytes_max = settings.store.tail_bytes_max;
    // A disk that is smaller than what stays free elsewhere would take nothing at all.
    let quarter = RealDisk::size_bytes(dir).map_or(u64::MAX, |size| size / 4);
    options.free_bytes_min = settings.store.free_bytes_min.min(quarter);
    let store = Store::open(options, metastore.clone()).map_err(|error| error.to_string())?;
    let (stop, stopped) = watch::channel(false);
    let background = tokio::spawn(store.clone().run(stopped.clone()));
    let (listener, address) = bind(settings.listen.address, &mut sockets).await?;
    let mut secure = None;
    let mut trust = None;
    if let Some(Tls { address, files }) = tls {
        let files = match files {
            Some(files) => files,
            None if is_demo => {
                let (authority, certificate, key) = tls::demo(dir)?;
                trust = Some(authority);
                (certificate, key)
            }
            None => return Err("--tls-listen needs --tls-cert and --tls-key".to_owned()),
        };
        secure = Some((bind(address, &mut sockets).await?, Certificate::open(files)?));
    }
    if let Some(address) = sockets.first().and_then(|socket| socket.local_addr().ok()) {
        return Err(format!(
            "a socket for {address} was handed over, and nothing is to listen there: name the same address in both places"
        ));
    }
    let shown = if is_demo { demo::prepare(&metastore, &store, address).await? } else { String::new() };
    let listening = Listener {
        router: axum::Router::new(),
        aliases: Arc::new(routes::aliases(&settings)?),
        header_timeout: settings.listen.header_timeout(),
        room: Arc::new(Semaphore::new(settings.listen.connections_max)),
        certificate: None,
    };
    let (mailer, mails) = Mailer::new(&settings.mail, dir.join(MAILBOX))?;
    let base = format!("http://{address}");
    let app = App::new(dir, metastore.clone(), store, settings, mailer, base, stopped.clone());
    let app = Arc::new(app.map_err(|error| error.to_string())?);
    tokio::spawn(mail::run(app.clone(), mails));
    let telling = tokio::spawn(notices::run(app.clone(), stopped.clone()));
    admin::serve(dir, app.clone()).await.map_err(|error| format!("cannot open the command socket: {error}"))?;
    Jobs::resume(&app).map_err(|error| error.to_string())?;
    let working = app.clone();
    let (places, watched) = (app.clone(), stopped.clone());
    tokio::spawn(async move { places.geo.follow(watched).await });
    let counting = tokio::spawn(callers::run(app.clone(), stopped.clone()));
    let listening = Listener { router: routes::router(app), ..listening };
    let mut servers = vec![tokio::spawn(listening.clone().serve(listener, stopped.clone()))];
    println!("listening on http://{address}");
    if !address.ip().is_loopback() {
        eprintln!("plain HTTP beyond loopback: API secrets and passwords travel readable; put TLS in front or give --tls-listen");
    }
    if let Some(((listener, address), certificate)) = secure {
        servers.push(tokio::spawn(certificate.clone().follow(stopped.clone())));
        servers.push(tokio::spawn(Listener { certificate: Some(certificate), ..listening }.serve(listener, stopped)));
        println!("listening on https://{address}");
    }
    if let Some(authority) = trust {
        let authority = std::path::absolute(&authority).unwrap_or(authority);
        println!(
            "trust its certificate: sudo install -m 644 {} /usr/local/share/ca-certificates/sluice-demo.crt && sudo update-ca-certificates",
            authority.display()
        );
    }
    print!("{shown}");
    if let Some(code) = metastore.new_setup_code(clock::now()).map_err(|error| error.to_string())? {
        let setup = routes::SETUP;
        println!(
            "setup code: {}  (once, for the first account: http://{address}{setup} or sluice setup --data {} --code CODE --email YOU --password-stdin)",
            code.expose(),
            dir.display()
        );
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(|error| error.to_string())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    let _ = stop.send(true);
    working.jobs.stop().await;
    drop(working);
    for server in servers {
        let _ = server.await;
    }
    let _ = counting.await;
    let _ = telling.await;
    let _ = background.await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_held_socket_is_taken_for_its_address_and_no_other() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        // It waits in the queue of the socket, as it would during a restart.
        let waiting = std::net::TcpStream::connect(address).unwrap();
        let mut held = vec![socket];
        let (_, other) = bind("127.0.0.1:0".parse().unwrap(), &mut held).await.unwrap();
        assert!(other != address && held.len() == 1);
        let (listener, bound) = bind(address, &mut held).await.unwrap();
        assert!(bound == address && held.is_empty());
        assert_eq!(listener.accept().await.unwrap().1, waiting.local_addr().unwrap());
    }
}
