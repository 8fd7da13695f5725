//! `sluice serve`: opens the data directory, listens, and closes everything in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use metastore::Metastore;
use store::{Store, StoreOptions};
use tokio::sync::watch;

use crate::app::App;
use crate::{admin, clock, config, demo, listen, routes};

/// Runs until the process is told to stop.
pub(crate) fn run(dir: &Path, listen_on: SocketAddr, key: Option<PathBuf>, is_demo: bool) -> Result<(), String> {
    if is_demo && !listen_on.ip().is_loopback() {
        return Err("--demo listens on loopback only".to_owned());
    }
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::new(config::log_filter())).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(serve(dir, listen_on, key, is_demo))
}

async fn serve(dir: &Path, listen_on: SocketAddr, key: Option<PathBuf>, is_demo: bool) -> Result<(), String> {
    let _held = admin::hold(dir)?;
    let key_file = admin::key_file(dir, key);
    let first_run = !key_file.exists();
    let metastore = Arc::new(Metastore::open(dir, &key_file).map_err(|error| error.to_string())?);
    if first_run && metastore.has_key_file() {
        println!("key file made: {} (without it no API secret can be read; keep a copy apart from backups)", key_file.display());
    }
    if !metastore.has_key_file() {
        eprintln!("the key file {} is missing: events are taken, signatures are answered 503", key_file.display());
    }
    let store = Store::open(StoreOptions::new(dir.to_path_buf()), metastore.clone()).map_err(|error| error.to_string())?;
    let (stop, stopped) = watch::channel(false);
    let background = tokio::spawn(store.clone().run(stopped.clone()));
    let listener = tokio::net::TcpListener::bind(listen_on).await.map_err(|error| format!("cannot listen on {listen_on}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let shown = if is_demo { demo::prepare(&metastore, &store, address).await? } else { String::new() };
    let app = Arc::new(App::new(metastore.clone(), store).map_err(|error| error.to_string())?);
    admin::serve(dir, app.clone()).await.map_err(|error| format!("cannot open the command socket: {error}"))?;
    println!("listening on http://{address}");
    print!("{shown}");
    if let Some(code) = metastore.new_setup_code(clock::now()).map_err(|error| error.to_string())? {
        println!("setup code: {}  (once: sluice setup --data {} --code CODE --email YOU --password-stdin)", code.expose(), dir.display());
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(|error| error.to_string())?;
    let server = tokio::spawn(listen::serve(listener, routes::router(app), stopped));
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    let _ = stop.send(true);
    let _ = server.await;
    let _ = background.await;
    Ok(())
}
