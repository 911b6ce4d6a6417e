"""The running service: routes, schema, start and end."""
