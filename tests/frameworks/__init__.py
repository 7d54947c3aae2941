"""Real applications, one module for each framework, and what runs them and looks at what they did.

The four answer the same routes, written the way each framework's manual does it; `common` says which.
"""
