"""agents: named, versioned configurations over a model, shared in a workspace, resolved for its people.

Its nouns: agent, version, configuration, alias, sharing, third party, reserved name. A version never changes
once it is written; what an agent is now is its latest version. Who may see one is decided in `visibility`,
for every path.

What it never does: it never keeps a configuration that is not sealed under a key of its workspace, never
remembers between two calls who may see what, and never puts another model in the place of a deleted one.
"""
