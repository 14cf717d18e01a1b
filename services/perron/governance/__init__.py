"""governance: what may happen to data, and the sealed records that are kept under it.

Its nouns: decision, purpose, record, directive (zero retention, training preference), epoch. A decision is
made once, before anything is kept, and never changes; whatever happens later is allowed only by the decision
*and* by the rules of that day.

What it never does: it never widens a decision, never answers from memory what a directive says, and never
writes content that is not sealed under the key of an epoch.
"""
