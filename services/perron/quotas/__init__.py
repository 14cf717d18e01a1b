"""quotas: how much may still be used, and what was used.

Its nouns: limit, counter, reservation, suspension, tier. A reservation charges every limit that bounds a
call, all or none; a settlement corrects it to what was really used. `windows` holds the promise that the rest
keeps.

It never decides who is calling or what may happen to data, never sees content, and never answers from a
cache.
"""
