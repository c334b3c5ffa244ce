from cosample_jax import progress


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_log_gets_a_line_at_most_every_ten_seconds_and_one_at_the_end(capsys):
    clock = Clock()
    with progress.bar('sample weak', total=100, unit='samples', clock=clock) as bar:
        for _ in range(100):
            clock.now += 0.25
            bar.advance(1, tokens=50, solved=1, loss=2.0 / clock.now)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    first = '40/100 samples  4/s  200 tokens/s  40 solved  loss 0.2  0:00:15 left'
    assert lines[0] == f'sample weak: {first}'
    assert lines[-1].startswith('sample weak: 100/100 samples') and lines[-1].endswith('0:00:25 in all')


def test_work_of_an_earlier_attempt_is_in_the_bar_but_not_in_the_rate():
    clock = Clock()
    with progress.bar('sample', total=100, unit='samples', initial=60, clock=clock) as bar:
        clock.now = 2.0
        bar.advance(20)
        assert bar.text() == '80/100 samples  10/s  0:00:02 left'


def test_a_terminal_gets_a_live_bar(monkeypatch, capsys):
    monkeypatch.setattr('sys.stdout.isatty', lambda: True)
    with progress.bar('train', total=4, unit='steps') as bar:
        bar.advance(4, tokens=10)
    assert 'train' in capsys.readouterr().out


def test_a_server_tells_what_it_did_since_it_last_told():
    clock = Clock()
    traffic = progress.Traffic(clock)
    clock.now = 10.0
    assert traffic.text(20, 300, 9000, 5) == '20 requests  30 samples/s  900 tokens/s  5 waiting'
    clock.now = 30.0
    assert traffic.text(21, 310, 9200, 0) == '21 requests  0.5 samples/s  10 tokens/s  0 waiting'
    assert traffic.text(21, 310, 9200, 0) is None
