-- What models did, in samples of one interval; those of the last day are kept.
CREATE TABLE samples (
    model_id TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    began INTEGER NOT NULL,
    sample TEXT NOT NULL,
    PRIMARY KEY (model_id, began)
) STRICT, WITHOUT ROWID;

CREATE INDEX samples_by_age ON samples (began);
