"""Projects, their viewer, and their files."""
