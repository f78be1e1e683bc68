"""What should happen to a call: rules, approvals, effective annotations. Pure: no I/O, no clock."""
