-- How a project finds out which ids are one user. What was stored before links nobody.
ALTER TABLE projects ADD COLUMN identity_mode TEXT NOT NULL DEFAULT 'simplified';
