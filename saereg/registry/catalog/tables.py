"""The tables of a catalogue, as SQL. A later version of them raises VERSION; such a file is refused, not rewritten."""

APPLICATION_ID = 0x5AE9C47A
"""What `PRAGMA application_id` of a catalogue says, so that no other SQLite file is taken for one."""

VERSION = 1
"""What `PRAGMA user_version` says."""

TABLES = """
CREATE TABLE source (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('folder', 'hub', 'saelens', 'inventory')),
    locator TEXT NOT NULL,              -- absolute path, org/repo, or sae_lens
    revision TEXT NOT NULL DEFAULT '',  -- what was asked for; '' is the default branch, or none
    pin TEXT,                           -- commit or sha256 of what was read; NULL before the first sync
    tool TEXT,                          -- what made the rows
    synced TEXT,                        -- when the rows were read, UTC
    checked TEXT,                       -- when the source was last asked, UTC
    problem TEXT,                       -- why the last sync did not succeed
    UNIQUE (kind, locator, revision)
);
CREATE TABLE release (
    id INTEGER PRIMARY KEY,
    source INTEGER NOT NULL REFERENCES source ON DELETE CASCADE,
    name TEXT NOT NULL, version TEXT,
    version_order TEXT,                 -- text that sorts as semantic versions do; NULL where there is no such version
    title TEXT, license TEXT,
    repo TEXT, revision TEXT, folder TEXT,
    standing TEXT NOT NULL CHECK (standing IN ('verified', 'unverified', 'foreign')),
    level TEXT, withdrawn TEXT, loader TEXT,
    UNIQUE (source, name)
);
CREATE INDEX release_name ON release (name, version);
CREATE INDEX release_repo ON release (repo) WHERE repo IS NOT NULL;
CREATE TABLE artifact (
    key INTEGER PRIMARY KEY,
    release INTEGER NOT NULL REFERENCES release ON DELETE CASCADE,
    id TEXT NOT NULL,
    path TEXT,                          -- NULL where it is the id
    kind TEXT, architecture TEXT, format TEXT,
    model TEXT, model_name TEXT,        -- model_name: the last part of model, lower case
    model_step INTEGER, model_revision TEXT,
    layer INTEGER, stream TEXT, module TEXT, hook_name TEXT, parameter TEXT, site TEXT, site_out TEXT,
    axis TEXT, steps TEXT, n_sources INTEGER,  -- steps: a JSON list
    d_in INTEGER, d_out INTEGER, d_sae INTEGER,
    k REAL, l1_coefficient REAL, l0_coefficient REAL, target_l0 REAL,
    seed INTEGER, snapshot TEXT, variant TEXT, canonical INTEGER, withdrawn TEXT, tokens INTEGER,
    dtype TEXT, weights_sha256 TEXT, size INTEGER, neuronpedia_id TEXT,
    l0 REAL, l0_basis TEXT, l0_definition TEXT,
    explained_variance REAL, explained_variance_basis TEXT, explained_variance_definition TEXT
);
CREATE TABLE metric (
    artifact INTEGER NOT NULL REFERENCES artifact (key) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    basis TEXT NOT NULL CHECK (basis IN ('measured', 'stated')),
    metric TEXT,                        -- definition; NULL where the source gives none
    name TEXT,                          -- what the source calls it; NULL where it is the definition
    value REAL NOT NULL,
    evaluation TEXT, kind TEXT, units TEXT NOT NULL, batch_rows INTEGER, rows INTEGER, verdict TEXT,
    PRIMARY KEY (artifact, position), CHECK (coalesce(name, metric) IS NOT NULL)
) WITHOUT ROWID;
CREATE TABLE assumption (
    artifact INTEGER NOT NULL REFERENCES artifact (key) ON DELETE CASCADE,
    field TEXT NOT NULL, value TEXT NOT NULL, because TEXT NOT NULL,
    PRIMARY KEY (artifact, field)
) WITHOUT ROWID;
CREATE TABLE edge (
    id INTEGER PRIMARY KEY,
    release INTEGER NOT NULL REFERENCES release ON DELETE CASCADE,
    artifact TEXT,                      -- id in the release; NULL for the whole
    relation TEXT NOT NULL CHECK (relation IN ('sister', 'derived_from', 'source_checkpoint')),
    target TEXT NOT NULL, sha256 TEXT
);
CREATE INDEX edge_release ON edge (release);
CREATE INDEX edge_target ON edge (target);
CREATE TABLE alias (
    release INTEGER NOT NULL REFERENCES release ON DELETE CASCADE,
    name TEXT NOT NULL, artifact TEXT NOT NULL,
    PRIMARY KEY (release, name, artifact)
) WITHOUT ROWID;
CREATE TABLE finding (
    id INTEGER PRIMARY KEY,
    release INTEGER NOT NULL REFERENCES release ON DELETE CASCADE,
    code TEXT NOT NULL, severity TEXT NOT NULL, message TEXT NOT NULL,
    artifact TEXT, path TEXT, line INTEGER, pointer TEXT, expected TEXT, found TEXT, hint TEXT
);
CREATE INDEX finding_release ON finding (release);
"""

ARTIFACT_INDEXES = {
    "artifact_release": "(release)",
    "artifact_model": "(model_name, kind, layer)",
    "artifact_frontier": "(explained_variance, l0) WHERE explained_variance IS NOT NULL",
}
"""Index of `artifact` → its columns: those that are quicker made anew than kept while many rows are written."""

VIEWS = """
CREATE VIEW artifacts AS
SELECT a.key,
    coalesce(r.repo || '@' || r.revision, 'hf://' || r.repo, r.folder, r.name) || ':'
        || iif(r.standing = 'foreign', coalesce(a.path, a.id), a.id) AS reference,
    CASE WHEN r.version IS NOT NULL THEN r.name || ' ' || r.version ELSE r.name END AS release,
    r.name AS release_name, r.version, r.standing, r.repo, r.folder, r.loader, r.license,
    a.id, coalesce(a.path, a.id) AS path, a.kind, a.architecture, a.format,
    a.model, a.model_name, a.model_step, a.model_revision, a.model_revision AS revision,
    a.layer, a.stream, a.module, a.hook_name, a.parameter, a.site, a.site_out,
    a.axis, a.steps, a.n_sources, a.d_in, a.d_out, a.d_sae,
    a.k, a.l1_coefficient, a.l0_coefficient, a.target_l0,
    a.seed, a.snapshot, a.variant, a.canonical, coalesce(a.withdrawn, r.withdrawn) AS withdrawn, a.tokens,
    a.dtype, a.weights_sha256, a.size, a.neuronpedia_id,
    a.l0, a.l0_basis, a.l0_definition,
    a.explained_variance, a.explained_variance AS ev, a.explained_variance_basis, a.explained_variance_definition,
    s.kind AS source_kind, s.locator AS source, s.pin, s.synced
FROM artifact a JOIN release r ON r.id = a.release JOIN source s ON s.id = r.source;
CREATE VIEW metrics AS
SELECT x.reference, x.id, x.release, m.basis, m.metric, coalesce(m.name, m.metric) AS name, m.value, m.evaluation,
    m.kind, m.units, m.batch_rows, m.rows, m.verdict, x.source, x.pin, x.synced
FROM metric m JOIN artifacts x ON x.key = m.artifact;
CREATE VIEW assumptions AS
SELECT x.reference, x.id, x.release, n.field, n.value, n.because, x.source, x.pin, x.synced
FROM assumption n JOIN artifacts x ON x.key = n.artifact;
CREATE VIEW releases AS
SELECT r.*, s.kind AS source_kind, s.locator, s.pin, s.synced, s.tool,
    (SELECT count(*) FROM artifact a WHERE a.release = r.id) AS artifacts,
    (SELECT count(*) FROM finding f WHERE f.release = r.id) AS findings
FROM release r JOIN source s ON s.id = r.source;
CREATE VIEW latest AS
SELECT * FROM (
    SELECT r.*, row_number() OVER (
        PARTITION BY r.name, r.repo
        ORDER BY r.withdrawn IS 'yanked', r.version_order DESC, r.standing = 'verified' DESC, r.id
    ) AS place FROM releases r
) WHERE place = 1;
"""
"""What is meant for readers: one flat row per artifact, number, assumption and release, each with its source."""

DOCUMENTED = ("artifacts", "metrics", "assumptions", "releases", "latest", "source", "edge", "alias", "finding")
"""Tables and views that users may rely on."""
