//! HTTPS with the operator's certificate, and with its successor without a restart.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};

/// Writes a certificate for `localhost` and its key; returns the certificate.
fn certificate(dir: &Path, with_key: bool) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).expect("it is written");
    if with_key {
        std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).expect("it is written");
    }
    made.cert.der().clone()
}

/// Whether the server shows this certificate and answers behind it.
fn answers(port: u16, trusted: &CertificateDer<'static>) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).expect("a root");
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).expect("a connection");
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    if stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").is_err() {
        return false;
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer.starts_with(b"HTTP/1.1 200")
}

#[test]
fn a_changed_certificate_is_taken_without_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let first = certificate(dir.path(), true);
    let mut child = Command::new(e2e::binary())
        .args(["serve", "--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0", "--data"])
        .arg(dir.path().join("data"))
        .args([
            "--tls-cert".as_ref(),
            dir.path().join("cert.pem").as_os_str(),
            "--tls-key".as_ref(),
            dir.path().join("key.pem").as_os_str(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it was piped")).lines();
    let port = lines.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix("listening on https://127.0.0.1:")?.parse().ok());
    let port = port.expect("it listens");
    let outcome = std::panic::catch_unwind(|| {
        assert!(answers(port, &first), "the first certificate");
        // A certificate without its key cannot be used: the old one stays.
        certificate(dir.path(), false);
        std::thread::sleep(Duration::from_secs(3));
        assert!(answers(port, &first), "the old certificate stays while the new one is not whole");
        let second = certificate(dir.path(), true);
        let since = Instant::now();
        while !answers(port, &second) {
            assert!(since.elapsed() < Duration::from_secs(20), "the new certificate is taken");
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(!answers(port, &first), "the old one is gone");
    });
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    outcome.expect("every step holds");
}
