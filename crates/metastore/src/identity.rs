//! The identity secret of a project: with it the project's own server signs which user a client may speak for. It is read at every signed
//! record, so it is stored sealed, as an API secret that signs is.

use model::ProjectId;
use rusqlite::{OptionalExtension, Transaction};

use crate::audit::{self, By};
use crate::envelope::DataKey;
use crate::keys::data_key;
use crate::members::require_admin;
use crate::secret::new_identity_secret;
use crate::{MetaError, Metastore, Result, Secret, bump_epoch, sha256};

fn bound_to(project: ProjectId) -> String {
    format!("projects/{project}/identity/1")
}

/// Opens what [`seal`] sealed.
pub(crate) fn open(data_key: &DataKey, project: ProjectId, sealed: &[u8]) -> Result<Secret> {
    let secret = data_key.open_bound(&bound_to(project), sealed)?;
    String::from_utf8(secret).map(Secret::new).map_err(|_| MetaError::Sealed)
}

fn seal(data_key: &DataKey, project: ProjectId, secret: &Secret) -> Result<Vec<u8>> {
    data_key.seal_bound(&bound_to(project), secret.expose().as_bytes())
}

impl Metastore {
    /// A new identity secret in the place of the old one, which ends with it.
    fn make_identity_secret(&self, change: &Transaction<'_>, project: ProjectId, by: &By) -> Result<Secret> {
        let secret = new_identity_secret();
        let sealed = seal(&data_key(self, change, project)?, project, &secret)?;
        change.execute(
            "UPDATE projects SET identity_sealed = $1, identity_sha256 = $2 WHERE id = $3",
            (sealed, sha256(secret.expose().as_bytes()), project.0),
        )?;
        audit::append(change, by, Some(project), "identity secret create", "")?;
        bump_epoch(change)?;
        Ok(secret)
    }

    /// Makes an identity secret where there is none.
    pub(crate) fn ensure_identity_secret(&self, change: &Transaction<'_>, project: ProjectId, by: &By) -> Result<()> {
        if sealed(change, project)?.is_none() {
            self.make_identity_secret(change, project, by)?;
        }
        Ok(())
    }

    /// Shows the identity secret to an admin or owner, and notes that it was shown; makes it where there is none.
    pub fn identity_secret(&self, project: ProjectId, by: &By) -> Result<Secret> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "see its identity secret")?;
        let secret = match sealed(&change, project)? {
            Some((sealed, _)) => open(&data_key(self, &change, project)?, project, &sealed)?,
            None => self.make_identity_secret(&change, project, by)?,
        };
        audit::append(&change, by, Some(project), "identity secret reveal", "")?;
        self.finish(change, &[])?;
        Ok(secret)
    }

    /// Puts another identity secret in the place of the old one, which ends at once. Admins may.
    pub fn rotate_identity_secret(&self, project: ProjectId, by: &By) -> Result<Secret> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "rotate its identity secret")?;
        let dead: Vec<_> = sealed(&change, project)?.into_iter().map(|(_, hash)| (hash, by.at)).collect();
        let secret = self.make_identity_secret(&change, project, by)?;
        self.finish(change, &dead)?;
        Ok(secret)
    }
}

/// The sealed identity secret and its hash; `None` where there is none.
fn sealed(change: &Transaction<'_>, project: ProjectId) -> Result<Option<(Vec<u8>, [u8; 32])>> {
    let found = change
        .query_row("SELECT identity_sealed, identity_sha256 FROM projects WHERE id = $1", [project.0], |row| {
            Ok(row.get::<_, Option<Vec<u8>>>(0)?.zip(row.get::<_, Option<[u8; 32]>>(1)?))
        })
        .optional()?;
    found.ok_or(MetaError::Unknown("project"))
}
