"""The MCP servers behind Holdfast: how each is reached, kept alive and called."""
