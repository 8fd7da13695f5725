-- Properties that name the groups of an event, and the tables that properties look up. The files of tables lie in the data directory.
CREATE TABLE group_keys (
    project_id BIGINT NOT NULL REFERENCES projects (id),
    data_group_id BIGINT NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, data_group_id),
    UNIQUE (project_id, key)
);

CREATE TABLE lookup_tables (
    id TEXT PRIMARY KEY,
    project_id BIGINT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- When it got its content; until then it has neither a file nor columns.
    replaced_at BIGINT,
    path TEXT,
    rows BIGINT NOT NULL DEFAULT 0,
    bytes BIGINT NOT NULL DEFAULT 0,
    columns TEXT NOT NULL DEFAULT ''
);
CREATE INDEX lookup_tables_by_project ON lookup_tables (project_id);

-- A property leads to one table at most, a table may be led to by several.
CREATE TABLE lookup_properties (
    project_id BIGINT NOT NULL,
    source TEXT NOT NULL,
    property TEXT NOT NULL,
    table_id TEXT NOT NULL REFERENCES lookup_tables (id),
    PRIMARY KEY (project_id, source, property)
);

-- When tables of a project were replaced over HTTP in the last 24 hours.
CREATE TABLE lookup_calls (
    project_id BIGINT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX lookup_calls_by_project ON lookup_calls (project_id, at);
