"""What a downstream makes of a call that takes its time: a task of its own, watched to its end."""
