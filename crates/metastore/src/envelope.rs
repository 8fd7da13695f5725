//! Secrets at rest: XChaCha20-Poly1305 under a data key per project, which is wrapped by the key file.
//! The associated data binds a ciphertext to its project and purpose, so that none can be moved elsewhere.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::secret::random;
use crate::{MetaError, Result};

/// The key in the key file.
pub(crate) struct WrappingKey([u8; 32]);

/// The key that seals one project's secrets.
pub(crate) struct DataKey([u8; 32]);

const HEADER: &str = "# Sluice key file: it opens every API secret of its data directory. Keep a copy apart from the backups.";

impl WrappingKey {
    /// Reads the key file; makes it where `may_make` and there is none. `None`: it is missing.
    pub(crate) fn load(path: &Path, may_make: bool) -> Result<Option<Self>> {
        match fs::read_to_string(path) {
            Ok(text) => {
                let hex = text.lines().find(|line| !line.starts_with('#')).unwrap_or_default().trim();
                Ok(Some(Self(parse_hex32(hex).ok_or_else(|| MetaError::KeyFile("expected 64 hex digits".to_owned()))?)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_make => {
                let key: [u8; 32] = random();
                let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
                let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?;
                write!(file, "{HEADER}\n{hex}\n")?;
                file.sync_all()?;
                if let Some(dir) = path.parent() {
                    File::open(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })?.sync_all()?;
                }
                Ok(Some(Self(key)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a data key for a project; returns it with its wrapped form.
    pub(crate) fn new_data_key(&self, project: i64) -> Result<(DataKey, Vec<u8>)> {
        let key: [u8; 32] = random();
        let wrapped = seal(&self.0, format!("projects/{project}/data-key/1").as_bytes(), &key)?;
        Ok((DataKey(key), wrapped))
    }

    /// Unwraps a project's data key.
    pub(crate) fn data_key(&self, project: i64, wrapped: &[u8]) -> Result<DataKey> {
        let key = open(&self.0, format!("projects/{project}/data-key/1").as_bytes(), wrapped)?;
        Ok(DataKey(key.try_into().map_err(|_| MetaError::Sealed)?))
    }
}

impl DataKey {
    /// Seals an API secret.
    pub(crate) fn seal(&self, project: i64, api_key: &str, secret: &str) -> Result<Vec<u8>> {
        seal(&self.0, format!("keys/{project}/{api_key}/secret/1").as_bytes(), secret.as_bytes())
    }

    /// Opens an API secret.
    pub(crate) fn open(&self, project: i64, api_key: &str, sealed: &[u8]) -> Result<String> {
        let secret = open(&self.0, format!("keys/{project}/{api_key}/secret/1").as_bytes(), sealed)?;
        String::from_utf8(secret).map_err(|_| MetaError::Sealed)
    }
}

fn seal(key: &[u8; 32], bound_to: &[u8], plaintext: &[u8]) -> Result<Vec<u8>> {
    let nonce: [u8; 24] = random();
    let cipher = XChaCha20Poly1305::new(key.into());
    let sealed = cipher.encrypt(XNonce::from_slice(&nonce), Payload { msg: plaintext, aad: bound_to }).map_err(|_| MetaError::Sealed)?;
    Ok([nonce.as_slice(), &sealed].concat())
}

fn open(key: &[u8; 32], bound_to: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
    if sealed.len() < 24 {
        return Err(MetaError::Sealed);
    }
    let (nonce, sealed) = sealed.split_at(24);
    let cipher = XChaCha20Poly1305::new(key.into());
    cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: bound_to }).map_err(|_| MetaError::Sealed)
}

fn parse_hex32(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}
