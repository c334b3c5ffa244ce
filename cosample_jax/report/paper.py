"""What the paper published, to stand beside a run: directions may be compared, sizes belong to other models
and tasks.

Bansal et al. 2024, arXiv 2408.16737; Gemma2-9B (weak) and Gemma2-27B (strong) as sources, MATH / GSM8K.
"""

# (trained model, budget) -> points of pass@1 that weak data gained over strong data.
GAINS = {
    ('student', 'low'): ('+6.0', '+4.2'),
    ('student', 'high'): ('+5.8', '+1.3'),
    ('weak', 'low'): ('+3.8', '+1.5'),
    ('weak', 'high'): ('+2.0', '≈ 0'),
    ('strong', 'low'): ('+5.8', '+1.2'),
    ('strong', 'high'): ('+4.3', '+1.5'),
}
# (metric, budget) -> relative change, weak over strong, at equal compute.
RELATIVE = {
    ('coverage', 'low'): ('+11%', '+8%'),
    ('coverage', 'high'): ('+6%', '+1%'),
    ('diversity', 'low'): ('+86%', '+134%'),
    ('diversity', 'high'): ('+125%', '+158%'),
}
FALSE_POSITIVES = ('+7', '+2')  # points, weak minus strong
