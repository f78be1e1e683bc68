"""The protocol: how each era is decoded into a request, and each reply rendered for what the client understands."""
