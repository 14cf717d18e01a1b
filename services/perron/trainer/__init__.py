"""The worker that fine-tunes: it pulls jobs from finetuning, trains, and hands the weights back.

Its nouns: worker, lease, task (what one child process is told), plan (which examples meet in which step),
checkpoint, base. It keeps nothing: inputs and weights live in a scratch folder that is wiped when a lease
ends. It knows no customer, workspace or file beyond its lease, and it never runs code that came with a
model. Nothing else in the suite imports torch, transformers or peft, and here only the child process does.
"""
