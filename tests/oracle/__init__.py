"""Second opinions: what others make of the same bytes."""
