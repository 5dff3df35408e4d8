"""The typed configuration: schema, overrides, composition."""
