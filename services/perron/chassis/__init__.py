"""What every service stands on: settings, server, interceptors, store, batches, events, sealing, telemetry.

The chassis knows no service. It owns the life of a process, the shape of a call and the idiom of a
transaction; it never decides who may have what: that is a service's own business.
"""
