//! TLS: certificates from files, read again when they change, and the certificate that the demo makes for itself.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

/// How often the files are looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(2);

/// What a TLS listener presents now.
#[derive(Clone)]
pub(crate) struct Certificate {
    files: (PathBuf, PathBuf),
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Certificate {
    /// Reads certificate and key.
    pub(crate) fn open(files: (PathBuf, PathBuf)) -> Result<Self, String> {
        let current = Arc::new(RwLock::new(Arc::new(read(&files)?)));
        Ok(Self { files, current })
    }

    /// What the next handshake presents.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again whenever they change, until `shutdown` turns true. Files that do not fit are logged, and the old ones stay.
    pub(crate) async fn follow(self, mut shutdown: watch::Receiver<bool>) {
        let mut seen = self.stamps();
        loop {
            tokio::select! {
                _ = tokio::time::sleep(RELOAD_EVERY) => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
            let now = self.stamps();
            if now == seen {
                continue;
            }
            match read(&self.files) {
                Ok(fresh) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
                    seen = now;
                    tracing::info!("the TLS certificate was read again");
                }
                // Certificate and key may be in the middle of being replaced: they are tried again.
                Err(error) => tracing::warn!(%error, "the changed TLS certificate cannot be used; the old one stays"),
            }
        }
    }

    fn stamps(&self) -> [Option<(SystemTime, u64)>; 2] {
        let stamp = |path: &Path| std::fs::metadata(path).ok().and_then(|file| Some((file.modified().ok()?, file.len())));
        [stamp(&self.files.0), stamp(&self.files.1)]
    }
}

fn read((certificate, key): &(PathBuf, PathBuf)) -> Result<ServerConfig, String> {
    let bad = |path: &Path, error: &dyn std::fmt::Display| format!("cannot use {}: {error}", path.display());
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect).map_err(|error| bad(certificate, &error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, secret).map_err(|error| bad(certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The demo's own certificate for loopback, made once: the paths of the certificate to trust, of the one to present, and of its key.
/// The authority that signed it exists only while this runs: nothing else can ever be signed with what the user trusts.
pub(crate) fn demo(dir: &Path) -> Result<(PathBuf, PathBuf, PathBuf), String> {
    let (trust, chain, key) = (dir.join("demo-ca.pem"), dir.join("demo-cert.pem"), dir.join("demo-key.pem"));
    if trust.exists() && chain.exists() && key.exists() {
        return Ok((trust, chain, key));
    }
    let text = |error: rcgen::Error| format!("cannot make a certificate: {error}");
    let mut authority = CertificateParams::new(Vec::new()).map_err(text)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(DnType::CommonName, "Sluice demo on this machine");
    let authority_key = KeyPair::generate().map_err(text)?;
    let authority_certificate = authority.self_signed(&authority_key).map_err(text)?;
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]).map_err(text)?;
    leaf.distinguished_name.push(DnType::CommonName, "localhost");
    leaf.use_authority_key_identifier_extension = true;
    let leaf_key = KeyPair::generate().map_err(text)?;
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(authority, authority_key)).map_err(text)?;
    write(&key, &leaf_key.serialize_pem(), 0o600)?;
    write(&chain, &leaf.pem(), 0o644)?;
    write(&trust, &authority_certificate.pem(), 0o644)?;
    Ok((trust, chain, key))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let file = options.create(true).truncate(true).write(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
