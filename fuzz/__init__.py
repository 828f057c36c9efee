"""Structure-aware mutations of every kind of file that rope-deploy reads, and what may come of them.

values      the odd values that are put into documents and graphs
edits       one edit of one file: JSON, protobuf, text, bytes, or the file itself
seeds       the sound inputs that are mutated, made by code
surfaces    which files of which seed are mutated, and which commands then read them
case        a case: a surface, its edits and its command; the same for one seed and number
killing     a writer's process counted, and ended before one of its changes
outputs     what a writer has written, as readers see it
children    the product's own child processes, as forks
worker      runs a command line in a forked process with limits
judge       what an outcome must not be
campaign    many cases: resumable, in several processes, failures made small
corpus/     cases that failed once, as recipes

The mistakes that are put into a sound artifact are those of `faults.wrong_artifacts`; `faults.manifest_tampering` has
what its manifest is then made to say.
"""
