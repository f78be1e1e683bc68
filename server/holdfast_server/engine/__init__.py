"""The process that runs calls: where it lives on disk, who owns it, how it is started, found, asked and stopped."""
