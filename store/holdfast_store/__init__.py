"""What survives: the values, the lifecycle, the contract of a store and its backends."""
