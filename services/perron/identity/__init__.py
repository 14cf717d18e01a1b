"""Identity: who is calling, and as what.

This room owns organizations with their plans, subscriptions and acceptances, workspaces, members, and API
keys; it answers Verify from its store at every call, and mints the passports that name the answer between
services. It never remembers an answer, never shows a secret twice, and keeps nothing from which a secret
could be made.
"""
