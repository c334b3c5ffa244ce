# ruff: noqa: E501
"""The page's style sheet: light and dark, wide and phone, inlined so that the page is one file."""

from cosample_jax.report import drawing

COLOURS = """\
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1d2430; --soft: #566173; --line: #dfe3ea; --head: #eef1f5;
  --accent: #1b66a8; --accent-ink: #ffffff; --accent-soft: #e5f0fa; --warm: #9a4f00; --warm-soft: #fdf0de; --quiet-soft: #eceff4;
  --good: #1c7a4b; --good-soft: #e2f4ea; --bad: #b3261e; --bad-soft: #fbe6e4; --shadow: 0 1px 2px rgb(16 24 40 / .06), 0 1px 3px rgb(16 24 40 / .08);
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #10141b; --card: #181e28; --ink: #e8ebf1; --soft: #a2adbd; --line: #2c3542; --head: #202836;
    --accent: #7db8ee; --accent-ink: #0d2135; --accent-soft: #17304a; --warm: #f3b562; --warm-soft: #3a2a12; --quiet-soft: #262f3d;
    --good: #71cf9c; --good-soft: #143425; --bad: #f2938c; --bad-soft: #431d1b; --shadow: none;
  }
}
"""

FIGURES = f"""\
:root {{ {drawing.variables(dark=False)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {drawing.variables(dark=True)} }} }}
"""

CSS = (
    COLOURS
    + FIGURES
    + """\
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 3.5rem; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
a { color: var(--accent); }
nav { position: sticky; top: 0; z-index: 5; background: var(--card); border-bottom: 1px solid var(--line); overflow-x: auto; white-space: nowrap; scrollbar-width: none; }
nav div { max-width: 1120px; margin: 0 auto; padding: .55rem 1.25rem; display: flex; gap: 1.25rem; align-items: baseline; }
nav strong { margin-right: auto; padding-right: 1rem; }
nav a { text-decoration: none; color: var(--soft); font-size: .9rem; }
nav a:hover { color: var(--accent); }
main { max-width: 1120px; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: clamp(1.45rem, 1.05rem + 1.9vw, 2.15rem); line-height: 1.22; letter-spacing: -.015em; margin: .35rem 0 .9rem; text-wrap: balance; }
h2 { font-size: 1.4rem; letter-spacing: -.01em; margin: 3rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
p { margin: .5rem 0; max-width: 74ch; }
.eyebrow { text-transform: uppercase; letter-spacing: .09em; font-size: .76rem; font-weight: 650; color: var(--soft); margin: 0; }
.hero, .card { background: var(--card); border: 1px solid var(--line); border-radius: 14px; box-shadow: var(--shadow); }
.hero { padding: clamp(1.1rem, .6rem + 2.4vw, 2.1rem); }
.note { border-left: 4px solid var(--warm); background: var(--warm-soft); border-radius: 0 8px 8px 0; padding: .6rem .9rem; margin: 1rem 0; max-width: 80ch; }
.note p { margin: .2rem 0; max-width: none; }
.soft { color: var(--soft); }
.choices { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); gap: .9rem; margin: 1.1rem 0 .4rem; }
.choice { border: 1px solid var(--line); border-radius: 12px; padding: .9rem 1rem; background: var(--page); display: flex; flex-direction: column; gap: .3rem; }
.choice p { margin: 0; font-size: .88rem; color: var(--soft); }
.choice .who { font-weight: 650; color: var(--ink); font-size: .95rem; }
.choice .number { font-size: 1.55rem; line-height: 1.2; font-weight: 680; letter-spacing: -.02em; color: var(--ink); font-variant-numeric: tabular-nums; }
.choice .caution { color: var(--warm); }
.badge { display: inline-block; border-radius: 99px; padding: .12rem .65rem; font-size: .83rem; font-weight: 650; align-self: flex-start; border: 1px solid transparent; }
.badge.weak { background: var(--accent); color: var(--accent-ink); }
.badge.strong { background: var(--warm-soft); color: var(--warm); border-color: var(--warm); }
.badge.either, .badge.none { background: var(--quiet-soft); color: var(--soft); }
ul.plain, ol.plain { padding-left: 1.1rem; margin: .5rem 0; max-width: 80ch; }
ul.plain li, ol.plain li { margin: .3rem 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(25rem, 100%), 1fr)); gap: 1rem; margin: 1rem 0; }
.figures.three { grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); }
.figures.four { grid-template-columns: repeat(auto-fit, minmax(min(15rem, 100%), 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: .8rem .8rem .7rem; box-shadow: var(--shadow); min-width: 0; }
figure svg { display: block; width: 100%; height: auto; max-width: 38rem; margin: 0 auto; }
figure.single { margin: 1rem 0; }
figure.single svg { max-width: 47rem; }
figcaption { font-size: .87rem; line-height: 1.45; color: var(--soft); margin-top: .5rem; padding: 0 .25rem; }
figcaption b { color: var(--ink); }
.files { display: block; margin-top: .25rem; font-size: .8rem; word-spacing: .5rem; }
.table { margin: .9rem 0 1.2rem; background: var(--card); border: 1px solid var(--line); border-radius: 12px; box-shadow: var(--shadow); overflow: hidden; }
.table .scroll { overflow-x: auto; }
.table .title { padding: .65rem .9rem; font-size: .92rem; border-bottom: 1px solid var(--line); }
.table .title b { display: block; }
.table .title span { color: var(--soft); font-size: .86rem; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .42rem .75rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); vertical-align: baseline; }
tr:last-child td, tr:last-child th { border-bottom: 0; }
thead th { background: var(--head); font-weight: 620; color: var(--soft); font-size: .8rem; vertical-align: bottom; }
th.text, td.text { text-align: left; }
tbody th { text-align: left; font-weight: 560; }
tbody tr.start > * { border-top: 2px solid var(--line); }
td small, tbody th small { font-weight: 400; color: var(--soft); display: block; font-size: .78rem; }
.reason { display: inline-block; white-space: normal; max-width: 6.5rem; line-height: 1.25; font-style: italic; color: var(--soft); }
.example { padding: 1rem 1.1rem; margin: .8rem 0; }
.example pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .25rem 0 .7rem; font: .87rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
.samples { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); gap: .8rem; margin: .8rem 0; }
.samples .sample { padding: .75rem .9rem; margin: 0; }
.sample header { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .4rem; font-size: .86rem; color: var(--soft); }
.badge.right { background: var(--good-soft); color: var(--good); }
.badge.wrong { background: var(--bad-soft); color: var(--bad); }
.badge.false { background: var(--warm-soft); color: var(--warm); border-color: var(--warm); }
details { margin: .8rem 0; }
summary { cursor: pointer; font-weight: 600; }
details pre, pre.command { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1rem; overflow-x: auto; font: .83rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
footer { margin-top: 3rem; color: var(--soft); font-size: .86rem; }
@media (max-width: 40rem) {
  main { padding: 1rem .8rem 3rem; }
  nav div { padding: .55rem .8rem; }
  h2 { margin-top: 2.3rem; }
  figure { padding: .5rem .4rem .6rem; }
  th, td { padding: .4rem .55rem; }
  .scroll th:first-child, .scroll td:first-child { position: sticky; left: 0; background: var(--card); }
  tbody th { white-space: normal; overflow-wrap: anywhere; min-width: 6.8rem; max-width: 9rem; }
  .scroll thead th:first-child { background: var(--head); }
}
@media print {
  nav, .files { display: none; }
  body { background: #ffffff; font-size: 10.5pt; }
  main { padding: 0; max-width: none; }
  h2, h3, .table .title { break-after: avoid; }
  .card, .choice, figure, tr { break-inside: avoid; }
  .hero, figure, .table, .card { box-shadow: none; }
  .table, .table .scroll { overflow: visible; }
  .figures, .figures.three, .figures.four { grid-template-columns: 1fr 1fr; }
  th, td { padding: .25rem .4rem; white-space: normal; }
}
"""
)
