-- Roles, further keys, bearer tokens, tickets, callers. What is shown once is stored as its hash.
ALTER TABLE accounts ADD COLUMN is_operator BIGINT NOT NULL DEFAULT 0;
UPDATE accounts SET is_operator = 1 WHERE id = (SELECT MIN(id) FROM accounts);

CREATE TABLE transfers (
    id INTEGER PRIMARY KEY,
    project_id BIGINT NOT NULL UNIQUE REFERENCES projects (id),
    from_account BIGINT NOT NULL REFERENCES accounts (id),
    to_account BIGINT NOT NULL REFERENCES accounts (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE bearer_tokens (
    id INTEGER PRIMARY KEY,
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL,
    token_sha256 BLOB NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);

ALTER TABLE keys ADD COLUMN name TEXT NOT NULL DEFAULT 'first key';
ALTER TABLE keys ADD COLUMN networks TEXT NOT NULL DEFAULT '';
ALTER TABLE keys ADD COLUMN created_by BIGINT;
-- Of older secrets only a hash is known here: none is called scannable.
ALTER TABLE keys ADD COLUMN scannable BIGINT NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN retires_at BIGINT;
-- Until now a weak key was made only by whoever said --allow-weak.
UPDATE keys SET weak = 2 WHERE weak = 1;
UPDATE keys SET rights = rights || ',annotations,schema,data-deletion';

ALTER TABLE service_accounts ADD COLUMN created_by BIGINT;

ALTER TABLE projects ADD COLUMN suspended_at BIGINT;
ALTER TABLE projects ADD COLUMN requires_tls BIGINT NOT NULL DEFAULT 0;

-- A token that was reset: it takes events until it ends.
CREATE TABLE token_aliases (
    token TEXT PRIMARY KEY,
    project_id BIGINT NOT NULL REFERENCES projects (id),
    created_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    events BIGINT NOT NULL DEFAULT 0,
    last_at BIGINT
);

CREATE TABLE tickets (
    id INTEGER PRIMARY KEY,
    project_id BIGINT NOT NULL REFERENCES projects (id),
    opened_by BIGINT NOT NULL REFERENCES accounts (id),
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    decided_at BIGINT,
    decided_by TEXT
);

CREATE TABLE ticket_messages (
    id INTEGER PRIMARY KEY,
    ticket_id BIGINT NOT NULL REFERENCES tickets (id),
    author TEXT NOT NULL,
    at BIGINT NOT NULL,
    text TEXT NOT NULL
);

-- Who calls with what: one row a caller, kept for 90 days.
CREATE TABLE callers (
    project_id BIGINT NOT NULL,
    credential TEXT NOT NULL,
    outcome TEXT NOT NULL,
    scheme TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    address TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (project_id, credential, outcome, scheme, endpoint, address, user_agent)
);

ALTER TABLE audit ADD COLUMN address TEXT NOT NULL DEFAULT '';
