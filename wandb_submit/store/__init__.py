"""A submission's folder: what lies where, what agents write down, and how it is read."""
