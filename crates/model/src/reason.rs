//! Why something of a record is not stored as it was sent. The list is fixed, so that whatever comes in, counts by reason stay few.

/// What became of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is not stored, and a client that asks is told.
    Rejected,
    /// It is not stored, and the client is told that it was taken.
    Dropped,
    /// It is stored, but not as it was sent.
    Changed,
}

impl Outcome {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Dropped => "dropped",
            Self::Changed => "changed",
        }
    }
}

macro_rules! reasons {
    ($($name:ident, $outcome:ident, $word:literal, $help:literal;)*) => {
        /// Why a record, or a part of it, is not stored as it was sent.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = $help] $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The words for it, as they are stored and shown.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What became of the record.
            pub fn outcome(self) -> Outcome {
                match self { $(Self::$name => Outcome::$outcome,)* }
            }

            /// What happened, and what to change at the sender, in a sentence.
            pub fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }
        }
    };
}

reasons! {
    NotAnObject, Rejected, "not an object", "The record is no JSON object.";
    EventMissing, Rejected, "event missing", "The record has no name of an event.";
    PropertiesMissing, Rejected, "properties missing", "The record has no object `properties`.";
    RecordTooLong, Rejected, "record too long", "The record has more than 1,000,000 bytes.";
    TokenMissing, Rejected, "token missing", "The record names no project token.";
    TimeMissing, Rejected, "time missing", "A strict import needs `time` in every event.";
    TimeUnreadable, Rejected, "time not a number", "A strict request needs `time` as seconds or milliseconds since the epoch.";
    TimeAhead, Rejected, "time in the future", "A strict import takes no event from more than an hour ahead.";
    TimeTooOld, Rejected, "time too old", "`/track` takes the last 5 days, `/import` what happened since 1971: send older events by `/import`.";
    DistinctIdMissing, Rejected, "distinct_id missing", "The record names no user.";
    DistinctIdDisallowed, Rejected, "distinct_id disallowed", "The `distinct_id` is one of those that stand for nobody, such as `null` or `undefined`.";
    InsertIdMissing, Rejected, "insert_id missing", "A strict import needs `$insert_id` in every event.";
    InsertIdInvalid, Rejected, "bad insert_id", "An `$insert_id` has at most 36 letters, digits and hyphens, and is none that stands for nothing.";
    NotUtf8, Rejected, "not UTF-8", "A strict import takes texts in UTF-8 only.";
    IdentityVerb, Rejected, "identity event", "A strict import takes no `$identify`, `$create_alias` or `$merge`; the whole request is refused.";
    GroupKeyMissing, Rejected, "group_key missing", "The record names no `$group_key`.";
    GroupIdMissing, Rejected, "group_id missing", "The record names no `$group_id`.";
    DistinctIdOfGroup, Rejected, "distinct_id on a group", "A record of `/groups` has no `$distinct_id`.";
    ValueTooLong, Rejected, "value too long", "A profile's property has more than 262,144 bytes.";
    OperationMissing, Rejected, "operation missing", "The record has no operation such as `$set`, with a value of its type.";
    SecretAsToken, Rejected, "secret as token", "A secret stands in the place of the project token: reset it, and send the token.";
    SecretInside, Rejected, "secret inside", "A live secret stands in the record: reset it.";
    ProjectArchived, Rejected, "project archived", "The project is archived and takes nothing.";
    OriginRefused, Rejected, "origin not allowed", "The page that sent it is none of the project's origins.";
    SecretNeeded, Rejected, "secret needed", "The project takes deletes and merges with a secret only.";
    IdentityUnsigned, Rejected, "identity not signed", "The record speaks for a known user without a signature that holds.";
    Ignored, Dropped, "ignored", "The event has `$ignore`.";
    PageView, Dropped, "mp_page_view", "Events `mp_page_view` of old libraries are not stored.";
    DroppedByLexicon, Dropped, "dropped by lexicon", "The lexicon says that events of this name are not stored.";
    TextCut, Changed, "text cut", "A text of more than 255 characters was cut.";
    NameCut, Changed, "name cut", "A name of more than 255 characters was cut.";
    PropertiesCut, Changed, "too many properties", "Properties beyond the 255th were left out.";
    ElementsCut, Changed, "too many elements", "Elements of a list or object beyond the 255th were left out.";
    TooDeep, Changed, "too deep", "What was nested more than 10 deep became a text.";
    TimeClamped, Changed, "time clamped", "A time of more than an hour ahead became the time of receipt.";
    TimeReplaced, Changed, "time replaced", "A time that is no number became the time of receipt.";
    TextMended, Changed, "text mended", "Bytes that are no UTF-8 became U+FFFD.";
    NameOverflowed, Changed, "name into $overflow", "The token brought more new names than a day may: this one stands under `$overflow`.";
    PropertyLeftOut, Changed, "property left out", "The project takes this property with a secret only.";
    PropertyDropped, Changed, "property dropped by lexicon", "The lexicon says that this property is not stored.";
    FlaggedAsBot, Changed, "flagged as bot", "The sender is a bot, or the event has `$ignore`: it is stored with `$is_bot`.";
}

impl Reason {
    /// Reads the words back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }
}

/// What of a record was changed before it was stored: each reason once, with the field that it first met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes(Vec<(Reason, String)>);

impl Changes {
    /// Notes a change; the field is only made where the reason is new.
    pub fn note(&mut self, reason: Reason, field: impl FnOnce() -> String) {
        if !self.0.iter().any(|(known, _)| *known == reason) {
            self.0.push((reason, field()));
        }
    }

    /// Whether the record is stored as it was sent.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every reason with its field.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, &str)> {
        self.0.iter().map(|(reason, field)| (*reason, field.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_read_back_and_no_two_share_their_words() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
            assert!(!Reason::ALL[..at].iter().any(|other| other.as_str() == reason.as_str()), "{reason:?}");
            assert!(reason.help().ends_with('.'), "{reason:?}");
        }
    }

    #[test]
    fn a_record_counts_once_for_a_reason() {
        let mut changes = Changes::default();
        changes.note(Reason::TextCut, || "a".to_owned());
        changes.note(Reason::TextCut, || unreachable!());
        changes.note(Reason::TooDeep, || "b".to_owned());
        assert_eq!(changes.iter().collect::<Vec<_>>(), [(Reason::TextCut, "a"), (Reason::TooDeep, "b")]);
    }
}
