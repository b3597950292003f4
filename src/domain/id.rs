//! What a call is called: by its PBX, by its tenant, and by us.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Bytes in the longest call id.
pub const CALL_ID_MAX_BYTES: usize = 255;
/// Bytes in the longest tenant name.
pub const TENANT_MAX_BYTES: usize = 64;

/// Why an id was refused, for the one who sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing there.
    #[error("call_id is empty: it takes 1 to {CALL_ID_MAX_BYTES} bytes")]
    Empty,
    /// More than [`CALL_ID_MAX_BYTES`].
    #[error("call_id has {0} bytes: it takes 1 to {CALL_ID_MAX_BYTES}")]
    TooLong(usize),
    /// Bytes that are not UTF-8.
    #[error("call_id is not UTF-8")]
    NotUtf8,
    /// U+0000 to U+001F or U+007F, which no SIP Call-ID holds.
    #[error("call_id holds a control character")]
    ControlCharacter,
    /// Not `[a-z0-9_-]{1,64}`.
    #[error("a tenant is 1 to {TENANT_MAX_BYTES} of a-z, 0-9, _ and -")]
    Tenant,
}

/// The PBX's own id of a call: 1 to 255 bytes of UTF-8 without control characters, compared byte by
/// byte, hostile everywhere else.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(String);

impl CallId {
    /// Takes an id as it was sent, percent-decoded once by the caller where it came in a path.
    ///
    /// # Errors
    /// When it is empty, over [`CALL_ID_MAX_BYTES`] or holds a control character.
    pub fn new(id: impl Into<String>) -> Result<Self, InvalidId> {
        let id = id.into();
        match id.len() {
            0 => Err(InvalidId::Empty),
            n if n > CALL_ID_MAX_BYTES => Err(InvalidId::TooLong(n)),
            _ if id.bytes().any(|b| b.is_ascii_control()) => Err(InvalidId::ControlCharacter),
            _ => Ok(Self(id)),
        }
    }

    /// As [`CallId::new`], from bytes that may not be text.
    ///
    /// # Errors
    /// As [`CallId::new`], and for bytes that are not UTF-8.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, InvalidId> {
        let id = String::from_utf8(bytes).map_err(|_| InvalidId::NotUtf8)?;
        Self::new(id)
    }

    /// The id as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose call it is. Fit to be a subject token and a metric label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(String);

impl Tenant {
    /// Takes a name of the form `[a-z0-9_-]{1,64}`.
    ///
    /// # Errors
    /// For any other form.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidId> {
        let name = name.into();
        let fits = (1..=TENANT_MAX_BYTES).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if fits { Ok(Self(name)) } else { Err(InvalidId::Tenant) }
    }

    /// The tenant of open mode.
    #[must_use]
    pub fn open_mode() -> Self {
        Self("default".to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Our own opaque name of a call, derived from (tenant, call id) so that it exists without a
/// database: 128 bits, in subjects 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallKey(Uuid);

impl CallKey {
    /// The key of a tenant's call: the first 16 bytes of SHA-256 over tenant, a zero byte (which
    /// neither may hold) and call id.
    #[must_use]
    pub fn derive(tenant: &Tenant, call_id: &CallId) -> Self {
        let digest = Sha256::new()
            .chain_update(tenant.as_str().as_bytes())
            .chain_update([0])
            .chain_update(call_id.as_str().as_bytes())
            .finalize();
        let mut key = [0; 16];
        key.iter_mut().zip(digest).for_each(|(k, d)| *k = d);
        Self(Uuid::from_bytes(key))
    }

    /// As the database holds it.
    #[must_use]
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }

    /// Back from the database.
    #[must_use]
    pub const fn from_uuid(key: Uuid) -> Self {
        Self(key)
    }

    /// Back from a subject token.
    #[must_use]
    pub fn parse(token: &str) -> Option<Self> {
        Uuid::try_parse(token).ok().map(Self)
    }
}

impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

impl fmt::Debug for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::{CallId, CallKey, InvalidId, Tenant};

    #[test]
    fn a_call_id_may_hold_whatever_a_sip_call_id_holds() {
        for id in ["a", "f81d4fae/7dec+11%d0<a7>65\"00\\a0?c9:1e*6b[f6]{x}(y)@host.example", "*", ">", "'; --", "é"] {
            assert_eq!(CallId::new(id).unwrap().as_str(), id);
        }
        assert!(CallId::new("x".repeat(255)).is_ok());
    }

    #[test]
    fn an_id_that_is_empty_too_long_or_not_text_is_refused() {
        assert_eq!(CallId::new(""), Err(InvalidId::Empty));
        assert_eq!(CallId::new("x".repeat(256)), Err(InvalidId::TooLong(256)));
        assert_eq!(CallId::new("a\0b"), Err(InvalidId::ControlCharacter));
        assert_eq!(CallId::from_bytes(vec![0xff]), Err(InvalidId::NotUtf8));
        assert_eq!(Tenant::new("a.b"), Err(InvalidId::Tenant));
    }

    #[test]
    fn a_key_tells_tenants_apart_and_survives_a_subject() {
        let id = CallId::new("c1").unwrap();
        let key = CallKey::derive(&Tenant::open_mode(), &id);
        assert_ne!(key, CallKey::derive(&Tenant::new("other").unwrap(), &id));
        assert_eq!(CallKey::parse(&key.to_string()), Some(key));
    }
}
