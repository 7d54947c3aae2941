"""Applications that servers are measured with; no server's code. Servers import them as top-level modules.

This folder is on the path of every server that is measured, so that none of them imports anything of fastasgi.
"""
