"""Results for the eye: in a terminal with rich, or as data for a plotting library.

table.py    tables of rows, numbers lined up
heatmap.py  a report with one or two axes as a coloured grid
vega.py     a report as a Vega-Lite specification
svg.py      such a specification drawn
page.py     a run as one page of HTML; style.py, how it looks
stored.py   a run from the store; compared.py  two of them
results.py  what `midsl run` prints when it is done
"""
