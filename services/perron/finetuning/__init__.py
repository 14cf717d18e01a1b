"""finetuning: the files that are trained on, the jobs that train, the models they make.

Its nouns: file, upload, job, event, worker, lease, checkpoint, model, artifact, holding, transfer. A worker
pulls a job under a lease with a fencing token; whatever it brings is refused once the lease has passed on. A
model serves its owner alone (clause 1.2-conf) and leaves its workspace through two gates only.

It never trains, never runs an inference, and never answers from a cache.
"""
