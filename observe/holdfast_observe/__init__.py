"""What happened: logs, timelines, and what is left out of them. Nothing on a call's path waits for it."""
