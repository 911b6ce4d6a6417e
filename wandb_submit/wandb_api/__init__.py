"""The way to a W&B server: names of sweeps, the login, requests."""
