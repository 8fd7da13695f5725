//! Secrets and what is made of them: values that print nothing, random ones with a checksum, hashes.

use sha2::{Digest, Sha256};

/// A secret in memory. Its `Debug` prints nothing; it is overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a plaintext.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The plaintext, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        std::hint::black_box(&bytes);
    }
}

const PREFIX: &str = "slcs_";
const BEARER_PREFIX: &str = "slct_";
const IDENTITY_PREFIX: &str = "slci_";
const SESSION_PREFIX: &str = "slcw_";
const DEVICE_PREFIX: &str = "slcd_";
const CODE_PREFIX: &str = "slcc_";
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

/// A new API or service-account secret: `slcs_`, 30 base62 digits (178 bits), `_`, 6 digits of CRC32.
pub(crate) fn new_secret() -> Secret {
    with_checksum(PREFIX)
}

/// A new bearer token: as a secret, with a prefix of its own.
pub(crate) fn new_bearer_token() -> Secret {
    with_checksum(BEARER_PREFIX)
}

/// A new identity secret: as a secret, with a prefix of its own.
pub(crate) fn new_identity_secret() -> Secret {
    with_checksum(IDENTITY_PREFIX)
}

/// A new token of a session, for a cookie.
pub(crate) fn new_session_token() -> Secret {
    with_checksum(SESSION_PREFIX)
}

/// A new token by which a browser is known again, for a cookie.
pub(crate) fn new_device_token() -> Secret {
    with_checksum(DEVICE_PREFIX)
}

/// A new one-time code for a link.
pub(crate) fn new_code() -> Secret {
    with_checksum(CODE_PREFIX)
}

/// A one-time code that people type: `chars` characters of 32, in groups of five.
pub(crate) fn human_code(chars: usize) -> Secret {
    const DIGITS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut code = String::with_capacity(chars + chars / 5);
    let digits = random::<32>();
    for (at, byte) in digits[..chars.min(digits.len())].iter().enumerate() {
        code.extend((at > 0 && at % 5 == 0).then_some('-'));
        code.push(DIGITS[*byte as usize % 32] as char);
    }
    Secret(code)
}

/// What a typed code means: case, spaces and dashes do not matter.
pub(crate) fn read_human_code(text: &str) -> String {
    text.chars().filter(|char| !char.is_whitespace() && *char != '-').map(|char| char.to_ascii_uppercase()).collect()
}

fn with_checksum(prefix: &str) -> Secret {
    let mut digits = String::with_capacity(30);
    while digits.len() < 30 {
        // 248 = 4 × 62: larger bytes would favour the first digits.
        digits.extend(random::<32>().iter().filter(|byte| **byte < 248).map(|byte| BASE62[*byte as usize % 62] as char));
    }
    digits.truncate(30);
    let checksum = checksum(&digits);
    Secret(format!("{prefix}{digits}_{checksum}"))
}

/// A new token or API key: 32 lower-case hex digits.
pub(crate) fn new_hex32() -> String {
    random::<16>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a text has the form and checksum of one of our secrets; a scanner needs nothing else.
pub fn has_valid_checksum(text: &str) -> bool {
    [PREFIX, BEARER_PREFIX, IDENTITY_PREFIX, SESSION_PREFIX, DEVICE_PREFIX, CODE_PREFIX]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .and_then(|rest| rest.split_once('_'))
        .is_some_and(|(digits, sum)| digits.len() == 30 && checksum(digits) == sum)
}

/// How long a secret with prefix and checksum is.
const SCANNABLE_CHARS: usize = 42;

/// The secret with prefix and checksum that begins at the start of a text.
fn scannable_at(text: &str) -> Option<&str> {
    text.get(..SCANNABLE_CHARS).filter(|piece| has_valid_checksum(piece))
}

/// Every secret with prefix and checksum inside a text.
pub(crate) fn scannable_in(text: &str) -> impl Iterator<Item = &str> {
    let places = if text.len() < SCANNABLE_CHARS { "" } else { text }.match_indices("slc");
    places.filter_map(|(at, _)| scannable_at(&text[at..]))
}

/// The length of a secret that scanners do not recognise; 0 for one that they do, and for one so short that it may be anybody's word.
pub(crate) fn unscannable_chars(secret: &str) -> usize {
    if has_valid_checksum(secret) || is_weak(secret) { 0 } else { secret.len() }
}

fn checksum(digits: &str) -> String {
    let mut rest = crc32fast::hash(digits.as_bytes());
    let mut sum = [b'0'; 6];
    for digit in sum.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    sum.iter().map(|byte| *byte as char).collect()
}

/// Whether an imported value is short enough to be guessed.
pub fn is_weak(value: &str) -> bool {
    value.len() < 32
}

/// Checks an imported value: 1–128 printable ASCII characters without `:` and space.
pub(crate) fn check_imported(what: &'static str, value: &str) -> crate::Result<()> {
    let fits = (1..=128).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    if fits {
        Ok(())
    } else {
        Err(crate::MetaError::Invalid(format!("{what} must be 1 to 128 printable ASCII characters without `:` and space")))
    }
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_secret_carries_its_checksum() {
        let secret = new_secret();
        assert!(has_valid_checksum(secret.expose()));
        let mut bent = secret.expose().to_owned();
        let last = if bent.ends_with('0') { '1' } else { '0' };
        bent.pop();
        bent.push(last);
        assert!(!has_valid_checksum(&bent));
    }

    #[test]
    fn a_secret_is_found_inside_a_text() {
        let secret = new_secret();
        let text = format!("https://é.example/?key={}&slc=slcs_x", secret.expose());
        assert_eq!(scannable_in(&text).collect::<Vec<_>>(), [secret.expose()]);
        assert_eq!(secret.expose().len(), SCANNABLE_CHARS);
        assert_eq!(scannable_in(&secret.expose()[1..]).count() + scannable_in("slcs_").count(), 0);
    }

    #[test]
    fn debug_prints_no_secret() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".to_owned())), "Secret(…)");
    }
}
