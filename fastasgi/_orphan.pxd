"""What a worker asks of Linux for the case that its supervisor dies. For Python only: there is nothing to cimport."""
