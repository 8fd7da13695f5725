-- What one sender may bring of a project's token, and how many bytes it takes in a second.
ALTER TABLE projects ADD COLUMN bytes_per_second_max BIGINT;
ALTER TABLE projects ADD COLUMN address_events_per_second_max BIGINT;
