"""What happens around every call, outermost first: telemetry, errors, deadline, access, validation, handler.

Each interceptor wraps the handlers of a method once, when the method is registered, and not at every call:
gRPC's own interceptor objects are built anew for each call and cost a third of an empty one. None of them
knows a service.
"""
