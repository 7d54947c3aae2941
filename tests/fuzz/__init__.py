"""Random bytes against compiled code, bounded by time, each run repeatable by its seed."""
