-- Aliases as the configuration file gave them when the server last started: what differs from them was
-- switched since.
CREATE TABLE declared_aliases (
    alias TEXT PRIMARY KEY NOT NULL COLLATE BINARY,
    model_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;
