# ruff: noqa: E501
"""The page on which people judge solutions: one self-contained file that works offline and sends nothing anywhere.

One solution at a time, by mouse or keyboard; what was said stays in the browser until it is downloaded as the CSV that
`cosample judge --import` reads. Nothing on it tells which model wrote what. Texts are data for the script, set as text
and never as HTML: what a model wrote cannot run.
"""

import json
from collections.abc import Sequence

from cosample_jax.report.page import escape
from cosample_jax.report.style import COLOURS

COLUMNS = ('id', 'problem', 'gold', 'solution', 'verdict', 'note')

_CSS = """\
* { box-sizing: border-box; }
body { margin: 0; min-height: 100dvh; display: flex; flex-direction: column; background: var(--page); color: var(--ink); font: 17px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
header, footer { position: sticky; z-index: 2; background: var(--card); }
header { top: 0; border-bottom: 1px solid var(--line); }
footer { bottom: 0; border-top: 1px solid var(--line); padding-bottom: env(safe-area-inset-bottom); }
header > div, footer > div, main { width: 100%; max-width: 860px; margin: 0 auto; padding: .7rem 1.2rem; }
header > div { display: flex; flex-wrap: wrap; align-items: center; gap: .4rem 1rem; }
header strong { margin-right: auto; }
progress { width: 9rem; height: .5rem; appearance: none; border: 0; border-radius: 9px; overflow: hidden; background: var(--line); }
progress::-webkit-progress-bar { background: var(--line); }
progress::-webkit-progress-value { background: var(--accent); }
progress::-moz-progress-bar { background: var(--accent); }
.soft, label, kbd { color: var(--soft); }
.soft { font-size: .9rem; font-variant-numeric: tabular-nums; }
main { flex: 1; padding-top: 1.2rem; padding-bottom: 2rem; }
details { margin-bottom: 1.2rem; background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .6rem 1rem; }
summary { cursor: pointer; font-weight: 600; }
details p { margin: .5rem 0; }
h2 { font-size: .78rem; letter-spacing: .09em; text-transform: uppercase; color: var(--soft); margin: 1.2rem 0 .3rem; font-weight: 650; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
#solution { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .9rem 1.1rem; }
textarea { width: 100%; min-height: 3.2rem; margin-top: .3rem; padding: .5rem .7rem; font: inherit; font-size: .95rem; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 8px; resize: vertical; }
label { display: block; font-size: .9rem; margin-top: 1.2rem; }
footer > div { display: flex; flex-wrap: wrap; gap: .5rem; }
button { font: inherit; font-size: .95rem; padding: .5rem .85rem; border-radius: 9px; border: 1px solid var(--line); background: var(--page); color: var(--ink); cursor: pointer; }
button:focus-visible, textarea:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
button[aria-pressed=true] { font-weight: 650; }
#valid[aria-pressed=true] { background: var(--good-soft); color: var(--good); border-color: var(--good); }
#wrong[aria-pressed=true] { background: var(--bad-soft); color: var(--bad); border-color: var(--bad); }
#unsure[aria-pressed=true] { background: var(--warm-soft); color: var(--warm); border-color: var(--warm); }
#download { background: var(--accent); color: var(--accent-ink); border-color: transparent; padding: .3rem .8rem; }
kbd { font: .78rem ui-monospace, Menlo, Consolas, monospace; border: 1px solid var(--line); border-radius: 4px; padding: 0 .3rem; margin-left: .3rem; }
.end { margin-left: auto; display: flex; gap: .5rem; }
@media (max-width: 40rem) {
  body { font-size: 16px; }
  kbd { display: none; }
  header strong { width: 100%; }
  progress { flex: 1; width: auto; min-width: 4rem; }
  header > div, footer > div, main { padding-left: .9rem; padding-right: .9rem; }
  footer > div { display: grid; grid-template-columns: 1fr 1fr 1fr; }
  .end { grid-column: 1 / -1; margin: 0; display: grid; grid-template-columns: 1fr 1fr; }
}
"""

_BODY = """\
<header><div><strong>Is the reasoning right?</strong><progress id="bar" value="0"></progress>
<span class="soft" id="count"></span><button id="download" type="button">Download CSV</button></div></header>
<main>
<details><summary>What to judge</summary>
<p>The final answer of every solution is known to be right. Judge how it was reached, as a careful teacher would.</p>
<p><b>Wrong</b>: a calculation is false, a step does not follow, a needed step is missing or guessed, or errors cancel out. <b>Valid</b>: anything else, also another method or few words. <b>Unsure</b> leaves it out of the rates.</p>
<p>Your answers stay in this browser until you download them; download before you close it for good.</p></details>
<h2>Problem</h2><p class="text" id="problem"></p>
<h2>Known answer</h2><p class="text" id="gold"></p>
<h2>Solution</h2><p class="text" id="solution"></p>
<label for="note">Note (optional; Esc leaves it)<textarea id="note" rows="2"></textarea></label>
</main>
<footer><div>
<button id="valid" type="button" aria-pressed="false">Valid<kbd>v</kbd></button>
<button id="wrong" type="button" aria-pressed="false">Wrong<kbd>w</kbd></button>
<button id="unsure" type="button" aria-pressed="false">Unsure<kbd>u</kbd></button>
<span class="end"><button id="back" type="button">Back<kbd>←</kbd></button><button id="next" type="button">Next<kbd>→</kbd></button></span>
</div></footer>
"""

_SCRIPT = """\
const {title, columns, rows} = JSON.parse(document.getElementById('data').textContent);
const place = 'cosample ' + title;
const $ = name => document.getElementById(name);
const verdicts = ['valid', 'wrong', 'unsure'];
let said = {}, at = 0;
try { said = JSON.parse(localStorage.getItem(place)) || {}; } catch { }
const answer = () => said[rows[at].id] ||= {verdict: '', note: ''};
const keep = () => { try { localStorage.setItem(place, JSON.stringify(said)); } catch { } };
const decided = () => rows.filter(row => said[row.id]?.verdict).length;

function show() {
  for (const name of ['problem', 'gold', 'solution']) $(name).textContent = rows[at][name];
  $('note').value = answer().note;
  for (const name of verdicts) $(name).setAttribute('aria-pressed', answer().verdict === name);
  $('bar').max = rows.length;
  $('bar').value = decided();
  $('count').textContent = `${at + 1} of ${rows.length}, ${decided()} judged`;
  $('back').disabled = at === 0;
  $('next').disabled = at === rows.length - 1;
}
function go(step) {
  at = Math.min(Math.max(at + step, 0), rows.length - 1);
  show();
  scrollTo(0, 0);
}
function say(verdict) {
  answer().verdict = answer().verdict === verdict ? '' : verdict;
  keep();
  show();
}
function csv() {
  const cell = text => /[",\\r\\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  const line = row => columns.map(name => cell((said[row.id] && name in said[row.id] ? said[row.id][name] : row[name]) || '')).join(',');
  return [columns.join(','), ...rows.map(line)].join('\\r\\n') + '\\r\\n';
}
for (const name of verdicts) $(name).onclick = () => say(name);
$('back').onclick = () => go(-1);
$('next').onclick = () => go(1);
$('note').oninput = () => { answer().note = $('note').value; keep(); };
$('download').onclick = () => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([csv()], {type: 'text/csv'}));
  link.download = 'annotate.csv';
  link.click();
};
addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === $('note')) { if (event.key === 'Escape') $('note').blur(); return; }
  const verdict = verdicts.find(name => name[0] === event.key.toLowerCase());
  if (verdict) say(verdict);
  else if (event.key === 'ArrowRight' || event.key === 'Enter' && event.target === document.body) go(1);
  else if (event.key === 'ArrowLeft') go(-1);
});
const open = rows.findIndex(row => !said[row.id]?.verdict);
go(Math.max(open, 0));
"""


def document(title: str, rows: Sequence[dict[str, str]]) -> str:
    """The page for `rows` of COLUMNS; `title` is also where the browser keeps what was said."""
    data = json.dumps({'title': title, 'columns': COLUMNS, 'rows': rows}).replace('<', '\\u003c')  # no </script>
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<style>\n{COLOURS}{_CSS}</style>\n</head>\n<body>\n{_BODY}'
        f'<script type="application/json" id="data">{data}</script>\n<script>\n{_SCRIPT}</script>\n</body>\n</html>\n'
    )
