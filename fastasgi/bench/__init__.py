"""Load clients for measuring servers: compiled, and so cheap that they seldom are what is measured."""
