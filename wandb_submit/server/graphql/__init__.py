"""As much GraphQL as W&B's clients speak: operations are read, and answered from plain mappings without a schema."""
