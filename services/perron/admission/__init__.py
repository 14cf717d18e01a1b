"""Admission: answers a gateway before and after each inference.

It owns no store and decides nothing by itself: it asks identity who is calling, agents and finetuning what to
run where a name is theirs, quotas how much may still be used, and governance what may happen to the content,
in this order, and remembers the answers in the admission id that it hands out. Its nouns are *admission*,
*gateway*, *base model* and *effective model*. It never keeps anything between two calls: no key, no counter,
no decision, no content, no configuration.
"""
