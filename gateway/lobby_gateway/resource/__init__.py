"""The Lobby resource: its spec, schema, status and YAML files."""
