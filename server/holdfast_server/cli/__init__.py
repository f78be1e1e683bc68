"""The command line. `app.app` is the entry; each command imports what only it needs."""
