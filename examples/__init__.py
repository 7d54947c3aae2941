"""Small applications as their users would write them; README.md says how to run each."""
