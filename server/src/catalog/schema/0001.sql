PRAGMA application_id = 1215194994; -- "Hngr"

-- Registered models. Times are microseconds since 1970; source, kind, required, preload and priority
-- repeat what the spec says, so that indexes can find it.
CREATE TABLE models (
    id TEXT PRIMARY KEY NOT NULL COLLATE BINARY,
    uid TEXT NOT NULL,
    spec TEXT NOT NULL,
    version INTEGER NOT NULL,
    etag TEXT NOT NULL,
    origin TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    source TEXT NOT NULL,
    kind TEXT,
    required INTEGER NOT NULL,
    preload INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    desired INTEGER NOT NULL,
    suspended TEXT,
    attempt TEXT,
    learned TEXT
) STRICT;
CREATE INDEX models_by_creation ON models (created, id);
CREATE INDEX models_by_update ON models (updated, id);
CREATE INDEX models_by_source ON models (source, id);
CREATE INDEX models_by_kind ON models (kind, id);
CREATE INDEX models_by_origin ON models (origin, id);
CREATE INDEX models_wanted ON models (required, priority, id)
    WHERE desired = 1 OR required = 1 OR preload = 1 OR attempt IS NOT NULL;

CREATE TABLE labels (
    model_id TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX labels_by_key ON labels (key, value, model_id);

CREATE TABLE aliases (
    alias TEXT PRIMARY KEY NOT NULL COLLATE BINARY,
    model_id TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX aliases_by_model ON aliases (model_id, alias);

-- Ids and aliases are one name space.
CREATE TRIGGER models_take_a_free_name BEFORE INSERT ON models
WHEN EXISTS (SELECT 1 FROM aliases WHERE alias = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'the id is an alias');
END;
CREATE TRIGGER aliases_take_a_free_name BEFORE INSERT ON aliases
WHEN EXISTS (SELECT 1 FROM models WHERE id = NEW.alias)
BEGIN
    SELECT RAISE(ABORT, 'the alias is an id');
END;

-- Answers to calls that are safe to repeat.
CREATE TABLE requests (
    method TEXT NOT NULL,
    principal TEXT NOT NULL,
    id TEXT NOT NULL,
    digest BLOB NOT NULL,
    answer BLOB NOT NULL,
    time INTEGER NOT NULL,
    PRIMARY KEY (method, principal, id)
) STRICT;
CREATE INDEX requests_by_time ON requests (time);

CREATE TABLE switches (
    id TEXT PRIMARY KEY NOT NULL,
    alias TEXT NOT NULL,
    json TEXT NOT NULL,
    ended INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX switches_by_alias ON switches (alias, id);
CREATE INDEX switches_unfinished ON switches (id) WHERE ended = 0;

-- What makes tokens unforgeable.
CREATE TABLE secrets (
    name TEXT PRIMARY KEY NOT NULL,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO secrets VALUES ('page_token', randomblob(32));

-- Numbers of rows, so that nobody has to count them.
CREATE TABLE counts (
    name TEXT PRIMARY KEY NOT NULL,
    n INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counts VALUES ('models', 0), ('requests', 0);
CREATE TRIGGER models_counted_in AFTER INSERT ON models
BEGIN
    UPDATE counts SET n = n + 1 WHERE name = 'models';
END;
CREATE TRIGGER models_counted_out AFTER DELETE ON models
BEGIN
    UPDATE counts SET n = n - 1 WHERE name = 'models';
END;
CREATE TRIGGER requests_counted_in AFTER INSERT ON requests
BEGIN
    UPDATE counts SET n = n + 1 WHERE name = 'requests';
END;
CREATE TRIGGER requests_counted_out AFTER DELETE ON requests
BEGIN
    UPDATE counts SET n = n - 1 WHERE name = 'requests';
END;
