"""The tables of the server's database.

Times are seconds since 1970, JSON is kept as text, exactly as the client is to get it back. A sweep and an agent
are referred to by `number`, which never changes; `id` is what clients see.
"""

from __future__ import annotations

_FIRST = """
CREATE TABLE settings (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE projects (
  id INTEGER PRIMARY KEY,
  entity TEXT NOT NULL,
  name TEXT NOT NULL,
  created_at REAL NOT NULL,
  UNIQUE (entity, name)
);

CREATE TABLE sweeps (
  number INTEGER PRIMARY KEY AUTOINCREMENT,  -- seeds the search, so it must not be used twice
  id TEXT NOT NULL UNIQUE,
  project INTEGER NOT NULL REFERENCES projects (id),
  config TEXT NOT NULL,                      -- YAML, as the client sent it
  display_name TEXT,
  description TEXT,
  controller TEXT,
  scheduler TEXT,
  state TEXT NOT NULL,
  exhausted INTEGER NOT NULL DEFAULT 0,      -- no new point will be handed out
  created_at REAL NOT NULL,
  updated_at REAL NOT NULL,
  heartbeat_at REAL
);
CREATE INDEX sweeps_of_project ON sweeps (project, number);

-- What the search has chosen, in the order of choosing; handed out when `run` is set.
CREATE TABLE points (
  sweep INTEGER NOT NULL REFERENCES sweeps (number),
  number INTEGER NOT NULL,
  config TEXT NOT NULL,                      -- {"lr": {"value": 0.1}}
  run INTEGER,
  PRIMARY KEY (sweep, number)
) WITHOUT ROWID;
CREATE INDEX waiting_points ON points (sweep, number) WHERE run IS NULL;

CREATE TABLE agents (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  sweep INTEGER NOT NULL REFERENCES sweeps (number),
  host TEXT NOT NULL,
  state TEXT NOT NULL,
  created_at REAL NOT NULL,
  heartbeat_at REAL NOT NULL
);
CREATE INDEX agents_of_sweep ON agents (sweep, number);

CREATE TABLE runs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,      -- points and clients remember it, so it must not be used twice
  project INTEGER NOT NULL REFERENCES projects (id),
  name TEXT NOT NULL,                        -- W&B's run id
  sweep INTEGER REFERENCES sweeps (number),
  agent INTEGER REFERENCES agents (number),
  state TEXT NOT NULL,
  display_name TEXT NOT NULL,
  description TEXT,
  notes TEXT,
  tags TEXT NOT NULL DEFAULT '[]',
  run_group TEXT,
  job_type TEXT,
  git_commit TEXT,
  git_remote TEXT,
  program TEXT,
  host TEXT,
  point TEXT,                                -- what the search chose for it
  config TEXT NOT NULL DEFAULT '{}',
  summary TEXT NOT NULL DEFAULT '{}',
  system_metrics TEXT NOT NULL DEFAULT '{}',
  exit_code INTEGER,
  preempting INTEGER NOT NULL DEFAULT 0,
  stop_requested_at REAL,
  handed_out_at REAL,
  handed_out_by TEXT,                        -- the server process that did, to know answers that its death lost
  reported INTEGER NOT NULL DEFAULT 0,       -- the agent has named it in a heartbeat: the order arrived
  gone_at REAL,                              -- since when its agent no longer reports it
  created_at REAL NOT NULL,
  heartbeat_at REAL NOT NULL,
  UNIQUE (project, name)
);
CREATE INDEX runs_of_sweep ON runs (sweep, id) WHERE sweep IS NOT NULL;
CREATE INDEX runs_of_sweep_by_state ON runs (sweep, state) WHERE sweep IS NOT NULL;
CREATE INDEX runs_of_agent_by_state ON runs (agent, state) WHERE agent IS NOT NULL;
CREATE INDEX runs_by_state ON runs (state);

-- One row of a run's history, and (`stream` = 'events') one of its system metrics.
CREATE TABLE history (
  run INTEGER NOT NULL,
  stream TEXT NOT NULL,
  number INTEGER NOT NULL,
  step INTEGER NOT NULL,
  content TEXT NOT NULL,
  PRIMARY KEY (run, stream, number)
) WITHOUT ROWID;
CREATE INDEX history_by_step ON history (run, stream, step);

CREATE TABLE console (
  run INTEGER NOT NULL,
  number INTEGER NOT NULL,
  line TEXT NOT NULL,
  PRIMARY KEY (run, number)
) WITHOUT ROWID;

CREATE TABLE files (
  run INTEGER NOT NULL,
  name TEXT NOT NULL,
  size INTEGER NOT NULL,
  md5 TEXT NOT NULL,                         -- base64, as W&B gives it
  updated_at REAL NOT NULL,
  PRIMARY KEY (run, name)
) WITHOUT ROWID;
"""

# Of the complete server.
_SECOND = """
ALTER TABLE runs ADD COLUMN handed_out_beat INTEGER;             -- the agent's number of the heartbeat that got it
ALTER TABLE runs ADD COLUMN resumed INTEGER NOT NULL DEFAULT 0;  -- the order is to resume it
ALTER TABLE runs ADD COLUMN given_back INTEGER NOT NULL DEFAULT 0;  -- how often it got lost before it began
ALTER TABLE runs ADD COLUMN preempted_by TEXT;  -- fingerprint of the request that told its end by preemption
ALTER TABLE runs ADD COLUMN queued INTEGER NOT NULL DEFAULT 0;  -- somebody put it into its sweep
CREATE INDEX runs_of_project_by_age ON runs (project, created_at);
-- SQLite uses it where a query has just this condition (WAITING in runs/state.py).
CREATE INDEX waiting_runs ON runs (sweep, id) WHERE sweep IS NOT NULL
  AND (state = 'preempted' OR (state = 'pending' AND agent IS NULL AND (given_back > 0 OR queued)));
-- The search: how many points a grid has, whether all were chosen, which block of it comes next, and the first point
-- that was chosen under the present config.
ALTER TABLE sweeps ADD COLUMN grid_size INTEGER;
ALTER TABLE sweeps ADD COLUMN drawn INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sweeps ADD COLUMN next_block INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sweeps ADD COLUMN config_since INTEGER;
-- How many runs had ended when the point was chosen.
ALTER TABLE points ADD COLUMN known INTEGER NOT NULL DEFAULT 0;

-- What an agent computes on, in words, if it has told.
ALTER TABLE agents ADD COLUMN device TEXT NOT NULL DEFAULT '';

-- Runs that were there before a sweep and count as tried in it.
CREATE TABLE prior_runs (
  sweep INTEGER NOT NULL REFERENCES sweeps (number),
  run INTEGER NOT NULL,
  PRIMARY KEY (sweep, run)
) WITHOUT ROWID;

-- A named row of versions: of what runs log (a sequence), or of links to that (a portfolio).
CREATE TABLE artifact_collections (
  id INTEGER PRIMARY KEY AUTOINCREMENT,      -- clients remember it
  project INTEGER NOT NULL REFERENCES projects (id),
  name TEXT NOT NULL,
  type TEXT NOT NULL,                        -- what people call its kind: dataset, model, …
  portfolio INTEGER NOT NULL DEFAULT 0,
  description TEXT,
  tags TEXT NOT NULL DEFAULT '[]',
  next_version INTEGER NOT NULL DEFAULT 0,   -- a version's number is not used twice
  created_at REAL NOT NULL,
  updated_at REAL NOT NULL,
  UNIQUE (project, name)
);

CREATE TABLE artifacts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,      -- manifests of other artifacts and clients remember it
  sequence INTEGER NOT NULL REFERENCES artifact_collections (id),
  state TEXT NOT NULL,                       -- PENDING until its client says that all is there, then COMMITTED
  digest TEXT NOT NULL,
  manifest INTEGER,                          -- the one that counts, once it is committed
  distributed_id TEXT,                       -- what several runs call the one that they make together
  run INTEGER,                               -- that logged it; it may be gone
  wanted_aliases TEXT NOT NULL DEFAULT '[]', -- until it is committed
  description TEXT,
  metadata TEXT,
  tags TEXT NOT NULL DEFAULT '[]',
  ttl_s INTEGER,
  history_step INTEGER,
  size INTEGER NOT NULL DEFAULT 0,
  file_count INTEGER NOT NULL DEFAULT 0,
  created_at REAL NOT NULL,
  updated_at REAL NOT NULL
);
CREATE INDEX artifacts_of_sequence ON artifacts (sequence, digest);
CREATE INDEX artifacts_of_run ON artifacts (run) WHERE run IS NOT NULL;

-- What clients call artifacts before they know our ids.
CREATE TABLE artifact_clients (
  client_id TEXT PRIMARY KEY,
  artifact INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX clients_of_artifact ON artifact_clients (artifact);

CREATE TABLE artifact_versions (
  collection INTEGER NOT NULL,
  version INTEGER NOT NULL,
  artifact INTEGER NOT NULL,
  created_at REAL NOT NULL,
  PRIMARY KEY (collection, version)
) WITHOUT ROWID;
CREATE UNIQUE INDEX versions_of_artifact ON artifact_versions (artifact, collection);

CREATE TABLE artifact_aliases (
  collection INTEGER NOT NULL,
  alias TEXT NOT NULL,
  version INTEGER NOT NULL,
  PRIMARY KEY (collection, alias)
) WITHOUT ROWID;

CREATE TABLE artifact_manifests (
  id INTEGER PRIMARY KEY AUTOINCREMENT,      -- part of addresses
  artifact INTEGER NOT NULL,
  kind TEXT NOT NULL,                        -- FULL, INCREMENTAL (on top of `base`), PATCH (of several)
  base INTEGER,
  digest TEXT NOT NULL,
  head TEXT,                                 -- all but its entries, once it has been uploaded
  created_at REAL NOT NULL
);
CREATE INDEX manifests_of_artifact ON artifact_manifests (artifact);

CREATE TABLE artifact_entries (
  manifest INTEGER NOT NULL,
  path TEXT NOT NULL,
  digest TEXT NOT NULL,
  size INTEGER NOT NULL,
  ref TEXT,                                  -- where it is, if not here
  content TEXT,                              -- the MD5 (hexadecimal) of what is here
  entry TEXT NOT NULL,                       -- all that the client says of it
  PRIMARY KEY (manifest, path)
) WITHOUT ROWID;
CREATE INDEX entries_with_content ON artifact_entries (content) WHERE content IS NOT NULL;

-- The files that an artifact's client is about to upload, or need not upload because they are there.
CREATE TABLE artifact_uploads (
  artifact INTEGER NOT NULL,
  content TEXT NOT NULL,
  PRIMARY KEY (artifact, content)
) WITHOUT ROWID;
CREATE INDEX uploads_of_content ON artifact_uploads (content);

-- The files of all artifacts, each kept once.
CREATE TABLE artifact_contents (
  content TEXT PRIMARY KEY,
  size INTEGER NOT NULL,
  file TEXT NOT NULL,                        -- below the folder of contents
  created_at REAL NOT NULL
) WITHOUT ROWID;

-- Which runs logged and which used an artifact.
CREATE TABLE artifact_runs (
  run INTEGER NOT NULL,
  artifact INTEGER NOT NULL,
  used INTEGER NOT NULL,
  created_at REAL NOT NULL,
  PRIMARY KEY (run, used, artifact)
) WITHOUT ROWID;
CREATE INDEX runs_of_artifact ON artifact_runs (artifact, used);
"""

# What runs want people to hear of.
_THIRD = """
CREATE TABLE alerts (
  run INTEGER NOT NULL,
  at REAL NOT NULL,
  severity TEXT NOT NULL,
  title TEXT NOT NULL,
  text TEXT NOT NULL
);
CREATE INDEX alerts_of_run ON alerts (run, at);
"""

# For each run that ever changed, a number that is larger the later that was: lists of runs that are kept in memory look
# here for what they have to read anew. Of all that runs are listed by, only the last word of those that are under way
# is left out, for it changes all the time.
_FOURTH = """
CREATE TABLE run_changes (
  number INTEGER PRIMARY KEY,
  run INTEGER NOT NULL UNIQUE
);
CREATE TRIGGER run_came AFTER INSERT ON runs BEGIN
  INSERT OR REPLACE INTO run_changes (run) VALUES (NEW.id);
END;
CREATE TRIGGER run_changed AFTER UPDATE OF project, name, sweep, agent, state, display_name, description, notes, tags,
  run_group, job_type, git_commit, host, config, summary, exit_code, preempting, created_at ON runs BEGIN
  INSERT OR REPLACE INTO run_changes (run) VALUES (NEW.id);
END;
CREATE TRIGGER run_spoke AFTER UPDATE OF heartbeat_at ON runs WHEN NEW.state NOT IN ('pending', 'running') BEGIN
  INSERT OR REPLACE INTO run_changes (run) VALUES (NEW.id);
END;
CREATE TRIGGER run_went AFTER DELETE ON runs BEGIN
  INSERT OR REPLACE INTO run_changes (run) VALUES (OLD.id);
END;
"""

# What the server itself reads of a config that takes long to read, as JSON.
_FIFTH = """
ALTER TABLE sweeps ADD COLUMN outline TEXT;
"""

# A database has a version: how many of these scripts it has seen. A new one runs them all, an older one those that
# it lacks. One that was released never changes; a change of the tables is a new script at the end.
STEPS = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH)
