"""How a run's page looks: two palettes, one column, nothing that has to be fetched."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1f; --soft: #5c5c66; --page: #fff; --panel: #f5f5f7;
  --line: #d6d6dc; --good: #14672f; --bad: #a3142a; --link: #1a4fa0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ec; --soft: #a5a5b0; --page: #16161a;
  --panel: #202026; --line: #3a3a44; --good: #6fd08c; --bad: #ff8a96; --link: #8db8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem 1.5rem 4rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
a { color: var(--link); }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--panel); padding: .5rem; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; padding: 0; }
h1 { margin-bottom: .2rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
pre, .wide { overflow-x: auto; } pre { background: var(--panel); padding: .8rem; font-size: .85rem; }
code, pre { font-family: ui-monospace, monospace; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top; }
thead th { border-bottom: 1px solid var(--line); }
.num { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; overflow-x: auto; } figcaption, summary { color: var(--soft); font-size: .9rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.good { color: var(--good); } .bad { color: var(--bad); }
.soft { color: var(--soft); } .unit { margin: .4rem 0; } .places { padding-left: 2rem; }
.context { white-space: pre-wrap; overflow-wrap: anywhere; font-family: ui-monospace, monospace; }
.context span, .context mark { color: inherit; } .context mark { background: none; font-weight: bold;
  text-decoration: underline; }
@media print { nav, .skip { display: none; } }
"""
