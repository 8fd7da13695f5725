-- The first schema. Times are milliseconds since the Unix epoch; no column ever holds a plaintext secret.
CREATE TABLE instance (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO instance (name, value) VALUES ('epoch', 1);

CREATE TABLE setup_code (
    code_sha256 BLOB NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE projects (
    id INTEGER PRIMARY KEY,
    organization_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    timezone TEXT NOT NULL,
    token TEXT NOT NULL UNIQUE,
    hash_key BLOB NOT NULL,
    wrapped_data_key BLOB NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE members (
    project_id BIGINT NOT NULL REFERENCES projects (id),
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    role TEXT NOT NULL,
    PRIMARY KEY (project_id, account_id)
);

CREATE TABLE keys (
    id INTEGER PRIMARY KEY,
    project_id BIGINT NOT NULL REFERENCES projects (id),
    api_key TEXT NOT NULL UNIQUE,
    secret_sha256 BLOB NOT NULL UNIQUE,
    secret_sealed BLOB,
    rights TEXT NOT NULL,
    legacy TEXT NOT NULL,
    weak BIGINT NOT NULL,
    lifetime_max_ms BIGINT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);

CREATE TABLE service_accounts (
    id INTEGER PRIMARY KEY,
    project_id BIGINT NOT NULL REFERENCES projects (id),
    username TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    secret_sha256 BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    project_id BIGINT,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL,
    chain BLOB NOT NULL
);

CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    project_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    level BIGINT NOT NULL,
    sort_order TEXT NOT NULL,
    time_min_ms BIGINT NOT NULL,
    time_max_ms BIGINT NOT NULL,
    user_min BLOB NOT NULL,
    user_max BLOB NOT NULL,
    rows BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    log_partition BIGINT NOT NULL,
    seq_min BIGINT NOT NULL,
    seq_max BIGINT NOT NULL,
    identity_seq BIGINT NOT NULL,
    columns TEXT NOT NULL,
    path TEXT NOT NULL,
    superseded_path TEXT,
    deleted_path TEXT,
    format_version BIGINT NOT NULL
);
CREATE INDEX segments_by_project ON segments (project_id, kind);

CREATE TABLE sealed_through (
    log_partition BIGINT PRIMARY KEY,
    seq BIGINT NOT NULL
);
