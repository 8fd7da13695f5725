//! The accept loop: timeouts for headers, any-case methods, normal paths, graceful shutdown.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Method;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECTIONS_MAX: usize = 16_384;
/// Some SDKs put whole batches into the request line.
const HEAD_BYTES_MAX: usize = 256 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves until `shutdown` turns true, then lets running requests finish.
pub(crate) async fn serve(listener: TcpListener, router: Router, mut shutdown: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        let Ok((socket, _)) = accepted else {
            // Out of file descriptors, most likely: others will close theirs.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = room.clone().acquire_owned().await else { break };
        let _ = socket.set_nodelay(true);
        let router = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            if let Some(uri) = crate::routes::normal(request.uri()) {
                *request.uri_mut() = uri;
            }
            // One SDK names its methods in lower case.
            if let Ok(method) = Method::from_bytes(request.method().as_str().to_ascii_uppercase().as_bytes()) {
                *request.method_mut() = method;
            }
            router.call(request)
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(socket), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A connection that breaks is its client's affair.
            let _ = connection.await;
            drop(place);
        });
    }
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await;
}
