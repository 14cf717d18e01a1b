"""The runner of migrations, for `perron migrate` and `perron up`; services never import it, nor alembic.

A service's own `migrations/versions/` holds one module per revision, numbered "0001", "0002", … Each names
`revision`, `down_revision` and `compatible_since`: the oldest revision whose code still understands the
store afterwards. There is no `env.py`: the runner is the environment of all services.
"""
