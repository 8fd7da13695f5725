//! A new wrapping key in the place of the old one, while the server runs. Whenever the power goes, every data key opens: first the key file
//! holds both keys, then every data key is wrapped by the new one, then the key file holds the new one alone.

use std::sync::PoisonError;

use rusqlite::OptionalExtension;

use crate::audit::{self, By};
use crate::envelope::ACCOUNTS;
use crate::{Metastore, Result};

impl Metastore {
    /// Wraps every data key with a new key; returns how many there are. The key file changes: copies of it have to be made again.
    pub fn rotate_wrapping_key(&self, by: &By) -> Result<usize> {
        let connection = self.lock();
        let keys = self.wrapping_keys()?.with_new();
        keys.write(&self.key_file)?;
        *self.wrapping_keys.write().unwrap_or_else(PoisonError::into_inner) = Some(keys);
        drop(connection);
        let count = self.wrap_again(Some(by))?;
        self.drop_older_wrapping_keys()?;
        Ok(count)
    }

    /// Goes on where a rotation was cut short.
    pub(crate) fn finish_wrapping_key_rotation(&self) -> Result<()> {
        if !self.wrapping_keys().is_ok_and(|keys| keys.has_older()) {
            return Ok(());
        }
        self.wrap_again(None)?;
        self.drop_older_wrapping_keys()
    }

    fn wrap_again(&self, by: Option<&By>) -> Result<usize> {
        let keys = self.wrapping_keys()?;
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let mut count = 0;
        let projects: Vec<(i64, Vec<u8>)> = {
            let mut found = change.prepare("SELECT id, wrapped_data_key FROM projects")?;
            found.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?
        };
        for (id, wrapped) in projects {
            let again = keys.rewrap(id, &wrapped)?;
            change.execute("UPDATE projects SET wrapped_data_key = $1 WHERE id = $2", (again, id))?;
            count += 1;
        }
        let accounts: Option<Vec<u8>> = change.query_row("SELECT wrapped FROM account_data_key", [], |row| row.get(0)).optional()?;
        if let Some(wrapped) = accounts {
            change.execute("UPDATE account_data_key SET wrapped = $1", [keys.rewrap(ACCOUNTS, &wrapped)?])?;
            count += 1;
        }
        if let Some(by) = by {
            audit::append(&change, by, None, "wrapping key rotate", &format!("{count} data keys"))?;
        }
        self.finish(change, &[])?;
        Ok(count)
    }

    fn drop_older_wrapping_keys(&self) -> Result<()> {
        let keys = self.wrapping_keys()?.first_only();
        keys.write(&self.key_file)?;
        *self.wrapping_keys.write().unwrap_or_else(PoisonError::into_inner) = Some(keys);
        Ok(())
    }
}
