//! Commands about the quality of what comes in: what was not stored as it was sent, and the lexicon.

use metastore::{LexiconChange, MetaError};
use model::NameKind;
use serde_json::Value;

use crate::admin::Work;
use crate::commands::{Kind, Lexicon, Rejected};
use crate::lexicon::{self, Search};
use crate::rejections;
use crate::views::{DONE, shown_as as shown};

impl From<Kind> for NameKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Events => Self::Event,
            Kind::EventProperties => Self::EventProperty,
            Kind::ProfileProperties => Self::ProfileProperty,
        }
    }
}

impl Work<'_> {
    pub(crate) fn rejected(&self, command: &Rejected) -> Result<Value, MetaError> {
        match command {
            Rejected::List { on, from, to } => {
                let (from, to) = rejections::days(from.as_deref(), to.as_deref(), self.now)?;
                shown(rejections::Rejected::of(self.metastore, self.listed(on)?, from, to)?)
            }
            Rejected::Clear { on } => {
                let (project, by) = self.on(on)?;
                self.metastore.clear_rejections(project, &by)?;
                shown(DONE)
            }
        }
    }

    pub(crate) fn lexicon(&self, command: &Lexicon) -> Result<Value, MetaError> {
        match command {
            Lexicon::List { on, kind, search, sort, offset, rows_max } => {
                let project = self.listed(on)?;
                let entries = match self.app {
                    Some(app) => app.store.lexicon(project).map_err(|error| MetaError::Invalid(error.to_string()))?,
                    None => self.metastore.lexicon(project)?.0,
                };
                let search = Search { text: search.clone(), sort: *sort, offset: *offset, rows_max: *rows_max, ..Search::default() };
                shown(lexicon::page(entries, (*kind).into(), &search))
            }
            Lexicon::Set { on, kind, name, display_name, description, tags, hidden, dropped } => {
                let (project, by) = self.on(on)?;
                let change = LexiconChange {
                    display_name: display_name.clone(),
                    description: description.clone(),
                    tags: tags.as_ref().map(|tags| tags.split(',').map(str::to_owned).collect()),
                    hidden: *hidden,
                    dropped: *dropped,
                };
                lexicon::check((*kind).into(), name, &change)?;
                self.metastore.change_lexicon(project, (*kind).into(), name, &change, &by)?;
                shown(DONE)
            }
        }
    }
}
