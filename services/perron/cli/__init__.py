"""The command line: starts the suite, plays it, asks it and draws what it did.

Its nouns are the suite (the services as processes), the credential and the endpoints; everything else it
borrows from the services, which it asks over gRPC like any other caller. It never opens a service's store and
decides nothing itself.
"""
