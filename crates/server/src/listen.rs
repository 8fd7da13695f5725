//! The accept loop: timeouts for headers, any-case methods, normal paths, TLS, graceful shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Method, Uri};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::aliases::Aliases;
use crate::stream::Stream;
use crate::tls::Certificate;

/// Some SDKs put whole batches into the request line.
const HEAD_BYTES_MAX: usize = 256 * 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Whoever connected just before the end has sent its request by then; a connection without one is closed at once.
const SETTLING: Duration = Duration::from_millis(100);

/// Who is at the other end of the connection, as an extension of every request.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub address: SocketAddr,
    pub is_tls: bool,
}

/// The URI as it was sent, before its path was put into its normal form.
#[derive(Clone)]
pub(crate) struct AsSent(pub Uri);

/// How a listener answers.
#[derive(Clone)]
pub(crate) struct Listener {
    pub router: Router,
    /// Other paths for what the router knows.
    pub aliases: Arc<Aliases>,
    pub header_timeout: Duration,
    /// Connections that all listeners hold together.
    pub room: Arc<Semaphore>,
    /// Speaks TLS with this.
    pub certificate: Option<Certificate>,
}

impl Listener {
    /// Serves until `shutdown` turns true, then lets running requests finish.
    pub(crate) async fn serve(self, listener: TcpListener, mut shutdown: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        loop {
            let place = tokio::select! {
                place = self.room.clone().acquire_owned() => place,
                _ = shutdown.wait_for(|stop| *stop) => break,
            };
            let Ok(place) = place else { break };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = shutdown.wait_for(|stop| *stop) => break,
            };
            let Ok((socket, peer)) = accepted else {
                // Out of file descriptors, most likely: others will close theirs.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let _ = socket.set_nodelay(true);
            let (this, watcher) = (self.clone(), graceful.watcher());
            tokio::spawn(async move {
                match &this.certificate {
                    None => this.connection(socket, Peer { address: peer, is_tls: false }, watcher).await,
                    Some(certificate) => {
                        let acceptor = TlsAcceptor::from(certificate.current());
                        // Whoever cannot shake hands, or takes too long, is not served.
                        if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
                            this.connection(stream, Peer { address: peer, is_tls: true }, watcher).await;
                        }
                    }
                }
                drop(place);
            });
        }
        drop(listener);
        tokio::time::sleep(SETTLING).await;
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await;
    }

    async fn connection<S>(&self, stream: S, peer: Peer, watcher: hyper_util::server::graceful::Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = TowerToHyperService::new(self.router.clone());
        let aliases = self.aliases.clone();
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer);
            if let Some(uri) = aliases.resolve(request.uri()) {
                let sent = std::mem::replace(request.uri_mut(), uri);
                request.extensions_mut().insert(AsSent(sent));
            }
            // One SDK names its methods in lower case.
            if let Ok(method) = Method::from_bytes(request.method().as_str().to_ascii_uppercase().as_bytes()) {
                *request.method_mut() = method;
            }
            router.call(request)
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            // Who sends and goes, as PHP's socket does, has sent all the same.
            .half_close(true)
            .serve_connection(TokioIo::new(Stream::new(stream)), service);
        // A connection that breaks is its client's affair.
        let _ = watcher.watch(connection).await;
    }
}
