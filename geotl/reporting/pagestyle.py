"""How the report looks, on screens and on paper."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light; --ink: #1d2733; --faint: #55616d; --rule: #d9dfe5;
  --wash: #f5f7f9; --blue: #0b5fa5; --orange: #a84300; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.55 system-ui, -apple-system,
  "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", sans-serif; }
main { max-width: 58rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 1rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 3rem 0 .8rem; padding-top: 1rem;
  border-top: 1px solid var(--rule); }
p { margin: 0 0 .8rem; max-width: 44rem; }
a { color: var(--blue); }
.eyebrow { color: var(--faint); font-size: .8rem; font-weight: 600; letter-spacing: .08em;
  text-transform: uppercase; margin: 0 0 .3rem; }
.verdict { font-size: 1.15rem; font-weight: 600; max-width: none; margin: 0 0 1.2rem;
  padding: .7rem 1rem; background: #eef5fb; border-left: 4px solid var(--blue); }
.verdict.loses { background: #fff2e8; border-color: var(--orange); color: #7a3100; }
.finding { border: 1px solid var(--rule); border-left: 4px solid #aeb8c2;
  border-radius: 0 6px 6px 0; padding: .7rem 1rem; margin: 0 0 .9rem; }
.finding.doubtful { border-left-color: var(--blue); background: #f6fafd; }
.finding.wrong { border-left-color: var(--orange); background: #fff7f0; }
.finding p { max-width: none; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.finding .said { font-weight: 600; }
.finding details { color: var(--faint); font-size: .87rem; overflow-wrap: anywhere; }
.steps { padding-left: 1.4rem; margin: 0; }
.steps li { margin: 0 0 .9rem; break-inside: avoid; }
.steps .said { font-weight: 600; margin: 0 0 .3rem; }
.steps pre { margin: 0 0 .3rem; padding: .35rem .7rem; }
.keys { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem;
  margin: 1.4rem 0; }
.keys > div { border: 1px solid var(--rule); border-radius: 6px; padding: .7rem .9rem; }
.keys dt { color: var(--faint); font-size: .85rem; }
.keys dd { margin: 0; }
.keys b { display: block; font-size: 1.7rem; line-height: 1.25; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.keys span { color: var(--faint); font-size: .85rem; font-variant-numeric: tabular-nums; }
.cautions { border: 1px solid #eccaa8; background: #fffaf4; border-radius: 6px;
  padding: .8rem 1.1rem; margin: 1.4rem 0; }
.cautions h2 { font-size: 1rem; border: 0; padding: 0; margin: 0 0 .3rem; color: #7a3100; }
.cautions ul { margin: 0; padding-left: 1.2rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr));
  gap: .5rem 1.5rem; margin: 1.4rem 0; font-size: .9rem; }
.facts dt { color: var(--faint); font-size: .8rem; }
.facts dd { margin: 0; overflow-wrap: anywhere; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 1.5rem 0 0;
  padding: .7rem 0 0; border-top: 1px solid var(--rule); font-size: .9rem; }
.scroll { overflow-x: auto; margin: 0 0 .6rem; }
table { border-collapse: collapse; font-size: .92rem; min-width: min(100%, 30rem); }
th, td { padding: .38rem .8rem; text-align: left; vertical-align: baseline; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
th:first-child { padding-left: 0; }
td:last-child { white-space: normal; }
#regularisers tbody th { white-space: normal; }
#regularisers td:last-child, #weights td:last-child { white-space: normal; min-width: 9rem;
  overflow-wrap: anywhere; }
thead th { color: var(--faint); font-size: .82rem; font-weight: 600; white-space: nowrap;
  border-bottom: 1.5px solid #aeb8c2; }
tbody th { font-weight: 400; }
.strong th, .strong td { font-weight: 700; color: var(--blue); }
td { font-variant-numeric: tabular-nums; }
.number { text-align: right; }
.bar { position: relative; min-width: 9rem; }
.bar i { position: absolute; left: 1rem; top: 28%; bottom: 28%; background: #8fbfe3;
  border-radius: 1px; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px;
  margin-right: .55em; border: 1px solid rgb(0 0 0 / .15); }
.note, figcaption { color: var(--faint); font-size: .87rem; max-width: 44rem; }
figure { margin: 1.2rem 0; }
img { display: block; max-width: 100%; height: auto; }
figcaption { margin-top: .4rem; }
pre { background: var(--wash); border: 1px solid var(--rule); border-radius: 6px;
  padding: .7rem .9rem; overflow-x: auto; font: .85rem/1.5 ui-monospace, "SF Mono", Menlo,
  Consolas, "DejaVu Sans Mono", monospace; margin: 0 0 1rem; }
code { font: inherit; }
@media (max-width: 40rem) {
  main { padding: 1.3rem 1rem 3rem; }
  h1 { font-size: 1.55rem; }
  .keys { grid-template-columns: 1fr 1fr; gap: .5rem; }
  .keys b { font-size: 1.35rem; }
  .facts { grid-template-columns: 1fr 1fr; }
  .scroll table { font-size: .85rem; }
  th, td { padding: .35rem .5rem; }
  td:last-child { white-space: nowrap; }
  .bar { min-width: 0; }
  .bar i { display: none; }
}
@media print {
  @page { size: A4; margin: 16mm 16mm 18mm; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  body { font-size: 10pt; line-height: 1.4; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h1 { font-size: 19pt; }
  h2 { font-size: 13pt; margin-top: 1.6rem; break-after: avoid; }
  .keys { grid-template-columns: repeat(4, 1fr); }
  .keys, .facts, .cautions { margin: .9rem 0; }
  .keys b { font-size: 15pt; }
  .keys dt, .keys span { font-size: 8pt; }
  .facts { grid-template-columns: repeat(4, 1fr); gap: .25rem 1rem; font-size: 8.5pt; }
  .facts dt { font-size: 7.5pt; }
  figure, tr, .keys, .cautions, .verdict, .finding { break-inside: avoid; }
  thead { display: table-header-group; }
  .scroll { overflow: visible; }
  #classes table, #baselines table, #scores table, #draws table { break-inside: avoid; }
  img { width: calc(.78 * var(--width)); max-width: 100%; }
  table { font-size: 9pt; }
  th, td { padding-top: .2rem; padding-bottom: .2rem; }
  #weights table { font-size: 8pt; }
  #weights th, #weights td { padding-top: .08rem; padding-bottom: .08rem; }
  figure { margin: .8rem 0; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 8.5pt; }
  .recipe { columns: 2; column-gap: 8mm; font-size: 7.5pt; }
  p, .note { orphans: 3; widows: 3; }
}
"""
