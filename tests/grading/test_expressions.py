"""The strict engine for mathematics: what says the same, what does not, and what nobody must be able to do to it."""

import time

import pytest

from benchmarks.answers import HOSTILE
from cosample_jax.grading import expressions

SAME = [
    (r'\frac{1}{2}',
     r'\dfrac12 || \tfrac{1}{2} || 1/2 || 0.5 || .50 || \frac{-1}{-2} || \left(\frac{1}{2}\right)'
     r' || 50/100'),
    (r'-\frac{1}{2}', r'\frac{-1}{2} || \frac{1}{-2} || -0.5 || −1/2'),
    (r'3125',
     r'3{,}125 || 3 {, }125 || 3 125 || 3125 pct || 3,125 || 3,\!125 || 3\,125 || 3125.0 || $3125$ || \(3125\)'
     r' || 3125. || **3125**'
     r' || x=3125 || \$3125 || 3125\% || 5^5 || 3.125e3'),
    (r'10\frac{1}{12}', r'\frac{121}{12} || 121/12'),
    (r'\frac{7}{3}', r'2\frac13 || 2\tfrac{1}{3} || 2 1/3 || 2\frac{1}3 || 2\frac1{3} || 2 \frac 1 3'),
    (r'5', r'2\frac52 || 2\cdot\frac{5}{2}'),
    (r'2\frac{x}{3}', r'\frac{2x}{3}'),
    (r'0.\overline{3}', r'1/3 || \frac{1}{3}'),
    (r'0.1\overline{6}', r'\frac16'),
    (r'\frac{2469}{20,\!000}', r'2469/20000 || 0.12345'),
    (r'30^\circ', r'30 || 30^{\circ} || 30° || 30\text{ degrees} || 30\degree'),
    (r'50\%', r'50 || 50% || 50\,\% || 50\text{ percent}'),
    (r'\$12.50', r'12.5 || \$12.50 || 12.50\text{ dollars}'),
    (r'440\text{ cm}^2', r'440 || 440\text{ cm}^{2} || 440\mathrm{cm}^2 || 440\text{square centimeters}'),
    (r'5\text{ feet}', r'5 || 5\text{ ft} || 5ft || 5\,\text{feet}'),
    (r'\frac{\sqrt{2}}{2}',
     r'\frac{1}{\sqrt{2}} || \sqrt{1/2} || 2^{-1/2} || \sin(45^\circ) || \cos\frac{\pi}{4} || √2/2'
     r' || sqrt(2)/2'),
    (r'2\sqrt3', r'\sqrt{12} || 2\cdot\sqrt{3} || 2*sqrt(3) || \sqrt{3}\cdot2 || 2\times\sqrt3 || 2√3'),
    (r'\sqrt[3]{2}', r'2^{1/3} || 2^{\frac13}'),
    (r'-2', r'\sqrt[3]{-8}'),
    (r'\frac{5\pi}{6}', r'\frac{5}{6}\pi || 5\pi/6 || 5π/6'),
    (r'10^5', r'100000 || 100,000 || 10^{5} || 10^{2}\cdot10^3'),
    (r'2^{4950}', r'4^{2475}'),
    (r'120', r'5! || \binom{10}{3}'),
    (r'3', r'\log_2 8 || \log_{2}(8) || |-3| || \lfloor3.7\rfloor || \lceil2.1\rceil || \ln(e^3) || \text{three}'),
    (r'-1', r'i^2 || e^{i\pi} || \cos\pi'),
    (r'1+\sqrt{5}', r'\sqrt5+1 || \sqrt{6+2\sqrt{5}}'),
    (r'\frac{1+\sqrt5}{2}', r'\frac12+\frac{\sqrt5}{2} || (1+√5)/2'),
    (r'3-4i', r'-4i+3 || 3+-4i'),
    (r'(x+1)^2', r'x^2+2x+1 || (1+x)(x+1) || (x+1)**2'),
    (r'p^12-7', r'p^{12}-7'),
    (r'\frac{2ab}{a^2+b^2}', r'2ab/(b^2+a^2)'),
    (r'\sqrt{x^2}', r'|x|'),
    (r'2\sin x\cos x', r'\sin 2x || \sin(2x)'),
    (r'\sin^2t', r'1-\cos^2t || (\sin(t))^2'),
    (r'2 \tan x', r'2\frac{\sin{x}}{\cos{x}}'),
    (r'f(4-x)', r'f(-x+4)'),
    (r'2^{n-1}', r'\frac{2^n}{2}'),
    (r'\frac{x^2-1}{x-1}', r'x+1'),
    (r'3,-3', r'-3,3 || \{3,-3\} || {3,-3} || -3\text{ and }3 || x=3,x=-3 || x=-3\text{ or }x=3 || \pm3'),
    (r'\{4,5,7\}', r'\{7,5,4\} || 4,5,7'),
    (r'1\pm\sqrt{19}', r'1+\sqrt{19},1-\sqrt{19} || 1-\sqrt{19},\sqrt{19}+1'),
    (r'\frac{-1+\sqrt5}{2},\frac{-1-\sqrt5}{2}', r'\frac{-1\pm\sqrt5}{2} || x=\frac{-1\pm\sqrt{5}}{2}'),
    (r'6, 8\text{, and }10', r'6,8,10 || 10,6,8'),
    (r'(2,-1)', r'\left(2,-1\right) || (2.0,-1) || \langle2,-1\rangle || {2,-1} || x=2,y=-1 || (x,y)=(2,-1) || 2,-1'),
    (r'(4,3,3)', r'[4,3,3]'),
    (r'(1,1000)', r'(1,1000)'),
    (r'[0,1)', r'\left[0,1\right) || 0\le x<1 || x\in[0,1) || 0≤x<1 || 1>x\ge0'),
    (r'(-\infty,-1)\cup(2,\infty)',
     r'(2,\infty)\cup(-\infty,-1) || x<-1\text{ or }x>2 || (-∞,-1)∪(2,∞) || (2,+\infty)\cup(-\infty,-1)'),
    (r'[5,\infty)', r'x\ge5 || 5\leq x'),
    (r'\begin{pmatrix}1\\2\end{pmatrix}',
     r'\begin{bmatrix}1\\2\end{bmatrix} || (1,2) || \langle1,2\rangle'
     r' || \frac12\begin{pmatrix}2\\4\end{pmatrix}'),
    (r'\begin{pmatrix}1/2&0\\0&1\end{pmatrix}',
     r'\begin{bmatrix}0.5&0\\0&1\end{bmatrix} || \begin{array}{cc}\frac12&0\\0&1\end{array}'),
    (r'1:2:3', r'2:4:6'),
    (r'3:1', r'6:2 || 3/1'),
    (r'x=5', r'5 || x=5.0 || 5=x'),
    (r'y=2x+3', r'2x+3 || y=3+2x || 2x-y+3=0 || y-3=2x || f(x)=2x+3'),
    (r'3x-4y=5', r'6x-8y=10 || 4y=3x-5'),
    (r's^2\le8r^2', r'8r^2\ge s^2'),
    (r'-80\leq g(x)\leq 82', r'82\ge g(x)\ge-80'),
    (r'AB=9, CD=4', r'CD=4,AB=9'),
    (r'\frac23\approx0.67', r'\frac{2}{3} || 0.67'),
    (r'\text{Evelyn}', r'Evelyn || evelyn || \textbf{Evelyn} || \text{Evelyn.}'),
    (r'\text{(B)}', r'B || (B) || \text{B} || \mathrm{(B)}'),
    (r'\text{C, E}', r'C,E || E,C || \text{E,C}'),
    (r'\text{October 30}', r'October 30'),
    (r'2516_8', r'2516_{8} || 2516'),
]  # fmt: skip

DIFFERENT = [
    (r'5', r'-5 || 6 || 4 || 50 || 0.5 || 5^2 || 5.0001 || -(5) || \frac{1}{5} || 5i || 5x || \sqrt5 || 5! || 05.5'),
    (r'1 1/2', r'11/2 || 1/2 || 1.15'),
    (r'\frac12', r'-\frac12 || \frac13 || 2 || 0.05 || \frac{1}{20} || 0.5001 || 0.49999999999999999999'),
    (r'\frac13', r'0.333 || 0.3333333333333333 || 33.3\%'),
    (r'1/2^{99}', r'1/2^{98} || 1/2^{100} || -1/2^{99} || 2^{99} || 1/(2^{99}+1)'),
    (r'-1/2004!', r'1/2004! || -1/2003! || -2004! || 0'),
    (r'2^{4950}', r'2^{4951} || 2^{4950}+1 || -2^{4950}'),
    (r'1-1/e', r'1+1/e || 1/e || 1-e'),
    (r'\pi', r'3.14159265358979 || 3.14 || \frac{22}{7} || 2\pi'),
    (r'2\sqrt3', r'3\sqrt2 || -2\sqrt3 || 2\sqrt{3}+1 || 2+\sqrt3 || 3.4641016151'),
    (r'3-4i', r'3+4i || 4-3i || -3+4i || 3-4'),
    (r'50\%', r'0.5 || 5\% || 50.5\%'),
    (r'5\text{ feet}', r'5\text{ inches} || 6\text{ feet} || 5\text{ square feet}'),
    (r'440\text{ cm}^2', r'440\text{ cm}^3 || 440\text{ m}^2'),
    (r'x^2-1', r'x^2+1 || x^3-1 || 1-x^2 || x-1 || y^2-1 || 2x^2-1'),
    (r'|x|', r'x || -x'),
    (r'2^{n-1}', r'2^{n+1} || 2^n-1'),
    (r'3125', r'3, 125 || 3,12,5'),
    (r'(1,2)', r'{2,1} || (2,1) || [1,2] || (1,2] || (1,-2) || (1,2,3) || 2,1 || 1 || (1,3)'),
    (r'[0,1)', r'[0,1] || (0,1) || (0,1] || 0<x<1 || 0\le x\le1'),
    (r'(4,3,3)', r'(4,3) || [4,3,3) || (3,4,3) || 4,3'),
    (r'1,2,3', r'1,2 || 1,2,4 || 1,2,3,3 || 1,1,2,3 || (1,2,3)'),
    (r'\{1,2\}', r'\{1\} || \{1,3\} || \{1,2,2\} || [1,2]'),
    (r'1\pm\sqrt{19}', r'1+\sqrt{19} || 1\pm\sqrt{17} || -1\pm\sqrt{19}'),
    (r'(-\infty,-1)\cup(2,\infty)', r'(-\infty,-1]\cup(2,\infty) || (-\infty,2) || (-\infty,1)\cup(2,\infty) || x>2'),
    (r'\infty', r'-\infty || 0 || 10^{100}'),
    (r'\begin{pmatrix}1&2\\3&4\end{pmatrix}',
     r'\begin{pmatrix}1&3\\2&4\end{pmatrix} || \begin{pmatrix}1&2&3&4\end{pmatrix} || (1,2,3,4)'
     r' || \begin{pmatrix}1&2\\3&-4\end{pmatrix}'),
    (r'1:2:3', r'1:3:2 || 1:2 || 6 || 1:2:4'),
    (r'y=2x+3', r'y=3x+2 || y=2x-3 || 2x+2 || y=-2x+3 || x=2y+3 || y=2x || y=2x+4 || y>2x+3'),
    (r'3x-4y=5', r'3x+4y=5 || 3x-4y=-5 || 3x-4y=6'),
    (r'x=5', r'y=5 || x=-5 || x>5 || 6'),
    (r's^2\le8r^2', r's^2\ge 8r^2 || s^2<8r^2 || s^2\le-8r^2'),
    (r'\text{even}', r'\text{odd} || \text{neither} || 2 || e'),
    (r'\text{(B)}', r'C || \text{(C)} || (A)'),
    (r'\text{ACF}', r'ACE || AC'),
    (r'2516_8', r'2516_9 || 2517_8 || 2516_{10} || 1358 || 2517'),
    (r'-37_8', r'-37_{80} || 37_8 || -36_8 || -38_8'),
    (r'\text{1:03 PM}', r'1:30 || 1:03\text{AM} || 103'),
]  # fmt: skip


def cases(table):
    return [
        pytest.param(gold, answer, id=f'{gold} | {answer}')
        for gold, answers in table
        for answer in answers.split(' || ')
    ]


@pytest.mark.parametrize(('gold', 'answer'), cases(SAME))
def test_what_says_the_same(gold, answer):
    assert expressions.compare(gold, answer) is True
    assert expressions.compare(gold, gold) is True


@pytest.mark.parametrize(('gold', 'answer'), cases(DIFFERENT))
def test_what_says_something_else(gold, answer):
    assert expressions.compare(gold, answer) is False


@pytest.mark.parametrize(
    ('gold', 'answer'),
    [
        ('f(4-x)', 'g(4-x)'),
        ('5', '5 \\oplus 3'),
        ('\\frac{1}{2}', '\\frac{1}{2'),
        ('3', '3 4'),
        ('0.333', '0.333...'),
        ('6, 2', '4 \\pm 1 \\pm 1'),
    ],
)
def test_what_cannot_be_told(gold, answer):
    assert expressions.compare(gold, answer) is None


def test_an_empty_gold_answer_equals_nothing():
    assert expressions.compare('', '') is False
    assert expressions.compare(' ', '0') is False


@pytest.mark.parametrize(
    ('text', 'normal'),
    [
        (r'\dfrac{1}{2}', '0.5'),
        (r'\frac{2}{6}', '1/3'),
        ('1,000', '1000'),
        (r'x = 5\text{ cm}', '5'),
        (r'\sqrt{12}', '≈3.46410161514'),
        (r'2\sqrt3', '≈3.46410161514'),
        ('3,-3', '{-3,3}'),
        (r'\pm 3', '{-3,3}'),
        (r'\left[0, \frac12\right)', '[0,0.5)'),
        (r'\text{(B)}', 'b'),
        ('x + 1', 'x+1'),
        ('1/2004!', '1/2004!'),
        ('2^{4950} ', '2^{4950}'),
        ('no such thing \\oops{', 'nosuchthingoops{'),
        ('(x+1, 2)', '(x+1,2)'),
        ('(-\\infty, 2]', '(-inf,2]'),
        ('', ''),
    ],
)
def test_normal_form(text, normal):
    assert expressions.normal_form(text) == normal


@pytest.mark.parametrize('text', HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_neither_right_nor_slow(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = time.process_time()
    assert expressions.compare('5', text) is not True
    expressions.compare(text, '5')
    expressions.compare(text, text + ' ')
    expressions.normal_form(text)
    # Each takes milliseconds; without its limits it would take hours, or all memory.
    assert time.process_time() - start < 10
    assert not list(tmp_path.iterdir())
