-- Long work of a project: imports and exports, and how far they are. What was asked for and what came of it is text that the server reads.
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    project_id BIGINT NOT NULL REFERENCES projects (id),
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    actor TEXT NOT NULL,
    asked TEXT NOT NULL,
    -- The credential of the source under the project's data key; nothing once the job ended.
    secret_sealed BLOB,
    outcome TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT '',
    started_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX jobs_by_project ON jobs (project_id, id);

-- The pieces of a job, so that one that was interrupted goes on where it was.
CREATE TABLE job_parts (
    job_id BIGINT NOT NULL REFERENCES jobs (id),
    number BIGINT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    -- Records of the piece, from its beginning, that were taken or refused for good.
    records BIGINT NOT NULL DEFAULT 0,
    tally TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job_id, number)
);
