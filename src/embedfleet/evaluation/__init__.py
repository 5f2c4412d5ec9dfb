"""Compares the answers of two models to the same questions, and says in words which is better. It is pure.

`questions` is the vocabulary: a question, its right answers, a passage that a search found. Questions come
from files (`question_files`) or from a tenant's own titles and headings (`known_items`). `relevance` gives
each answer a score by a metric, and `rankings` says how alike two answers are.

`planning` says before a run how many questions it needs. `confidence_sequence` bounds the difference at every
look during a run, `intervals` at the one look after it. `aa_check` runs experiments without a difference, of
which few may find one. `comparisons` pairs the scores, also slice by slice, and `verdicts` puts the result in
a sentence. `interleaving` merges two answers into one list for people, and tells from their clicks which
answer they prefer.

May import: deployment, routing and below.
"""
