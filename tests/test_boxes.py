import pytest

from cosample_jax import boxes


@pytest.mark.parametrize(
    ('solution', 'answer'),
    [
        (r'so \boxed{4}, or rather $\boxed{\frac{1}{2}}$.', r'\frac{1}{2}'),
        (r'the set $\boxed{\{1, 2\}}$', r'\{1, 2\}'),
        (r'it is $\boxed 9$.', '9'),
        (r'cut off: \boxed{\frac{1', None),
        ('nothing', None),
        (r'\boxed{}', ''),
    ],
)
def test_the_last_box_is_the_answer(solution, answer):
    found = boxes.last_box(solution)
    assert (found and found[1]) == answer
