"""What people and clients see: MCP in every era, admin tools, the command line, the config, the engine."""
