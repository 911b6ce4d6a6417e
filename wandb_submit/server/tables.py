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
CREATE INDEX runs_of_project_by_age ON runs (project, created_at);
"""

# A database has a version: how many of these scripts it has seen. A new one runs them all, an older one those that
# it lacks. One that was released never changes; a change of the tables is a new script at the end.
STEPS = (_FIRST, _SECOND)
