-- What of records was not stored as it was sent, tokens that nobody owns, and the names of events and properties.
CREATE TABLE rejections (
    project_id BIGINT NOT NULL,
    day BIGINT NOT NULL,
    reason TEXT NOT NULL,
    count BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, day, reason)
);

CREATE TABLE rejection_samples (
    id INTEGER PRIMARY KEY,
    project_id BIGINT NOT NULL,
    reason TEXT NOT NULL,
    at BIGINT NOT NULL,
    field TEXT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX rejection_samples_by_reason ON rejection_samples (project_id, reason);

CREATE TABLE unknown_tokens (
    name TEXT PRIMARY KEY,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    count BIGINT NOT NULL
);

-- Counts change in the transaction that seals the rows they count. The row without a name counts names beyond the cap.
CREATE TABLE lexicon (
    project_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    types BIGINT NOT NULL DEFAULT 0,
    first_at BIGINT,
    last_at BIGINT,
    count BIGINT NOT NULL DEFAULT 0,
    display_name TEXT NOT NULL DEFAULT '',
    description TEXT NOT NULL DEFAULT '',
    tags TEXT NOT NULL DEFAULT '',
    hidden BIGINT NOT NULL DEFAULT 0,
    dropped BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (project_id, kind, name)
);
CREATE INDEX lexicon_dropped ON lexicon (project_id) WHERE dropped = 1;
