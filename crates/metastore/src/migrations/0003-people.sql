-- People and what they hold: sessions, invitations, one-time codes, second factors; options of projects and of their tokens. What lets
-- somebody in is stored as its hash, what has to be read again is sealed.
ALTER TABLE accounts ADD COLUMN totp_sealed BLOB;
ALTER TABLE accounts ADD COLUMN totp_pending BLOB;
-- The step of the last code that was taken: a code counts once.
ALTER TABLE accounts ADD COLUMN totp_step BIGINT NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN disabled_at BIGINT;
-- Since when it is known that whoever has the account reads the mail of its address, or the console vouched for it.
ALTER TABLE accounts ADD COLUMN verified_at BIGINT;
UPDATE accounts SET verified_at = created_at;

CREATE TABLE recovery_codes (
    code_sha256 BLOB PRIMARY KEY,
    account_id BIGINT NOT NULL REFERENCES accounts (id)
);

CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    token_sha256 BLOB NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    proved_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    address TEXT NOT NULL,
    user_agent TEXT NOT NULL
);
CREATE INDEX sessions_by_account ON sessions (account_id);

-- Browsers that an account signed in from before: guesses from elsewhere do not lock them out.
CREATE TABLE devices (
    token_sha256 BLOB PRIMARY KEY,
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    seen_at BIGINT NOT NULL
);

CREATE TABLE invitations (
    id INTEGER PRIMARY KEY,
    project_id BIGINT NOT NULL REFERENCES projects (id),
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    code_sha256 BLOB NOT NULL UNIQUE,
    -- The code that is mailed: it shows that whoever has it reads the mail.
    mailed_sha256 BLOB NOT NULL UNIQUE,
    invited_by BIGINT REFERENCES accounts (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- Codes that are sent by mail: to set another password, to confirm another address.
CREATE TABLE account_codes (
    code_sha256 BLOB PRIMARY KEY,
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    purpose TEXT NOT NULL,
    email TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- The key under which second factors are sealed, wrapped as the data keys of projects are.
CREATE TABLE account_data_key (
    wrapped BLOB NOT NULL
);

CREATE TABLE organizations (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL
);

ALTER TABLE projects ADD COLUMN week_start TEXT NOT NULL DEFAULT 'monday';
ALTER TABLE projects ADD COLUMN archived_at BIGINT;
ALTER TABLE projects ADD COLUMN events_per_second_max BIGINT;
ALTER TABLE projects ADD COLUMN bytes_per_day_max BIGINT;
ALTER TABLE projects ADD COLUMN origins TEXT NOT NULL DEFAULT '';
ALTER TABLE projects ADD COLUMN enforces_origins BIGINT NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN deletes_need_secret BIGINT NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN backfill_needs_secret BIGINT NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN authenticated_properties TEXT NOT NULL DEFAULT '';
ALTER TABLE projects ADD COLUMN identity_needs_signature BIGINT NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN flags_bots BIGINT NOT NULL DEFAULT 0;
-- The identity secret under the project's data key, and its hash, by which it is found where it leaked and kept dead once it was replaced.
ALTER TABLE projects ADD COLUMN identity_sealed BLOB;
ALTER TABLE projects ADD COLUMN identity_sha256 BLOB;

-- How long a secret is that no scanner recognises; 0 for one with prefix and checksum. So leaks of imported ones are found too.
ALTER TABLE keys ADD COLUMN secret_chars BIGINT NOT NULL DEFAULT 0;
UPDATE keys SET secret_chars = 32 WHERE scannable = 0;
ALTER TABLE service_accounts ADD COLUMN secret_chars BIGINT NOT NULL DEFAULT 32;

ALTER TABLE keys ADD COLUMN legacy_since BIGINT NOT NULL DEFAULT 0;
UPDATE keys SET legacy_since = created_at;

CREATE INDEX callers_by_age ON callers (last_at);

-- Which credential exported from where before: owners are told of what is new.
CREATE TABLE exporters (
    project_id BIGINT NOT NULL,
    credential TEXT NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (project_id, credential, address)
);

-- Bytes that came in by day, for the quota of a day; they outlive a restart.
CREATE TABLE usage (
    project_id BIGINT NOT NULL,
    day BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (project_id, day)
);

-- Audit rows up to this one were told by mail.
INSERT INTO instance (name, value) SELECT 'mailed_through', COALESCE(MAX(id), 0) FROM audit;
